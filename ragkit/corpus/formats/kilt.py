"""KILT's task files, JSONL. Source: https://github.com/facebookresearch/KILT."""

from __future__ import annotations

from typing import Any

from ragkit.corpus.formats.records import Record
from ragkit.types import Example, Passage


def parse(record: Record) -> Example:
    """The example of ``{id, input, output: [{answer?, provenance?: [{wikipedia_id, title, ...}]}]}``.

    Answers and pages come once each. A positive is a Wikipedia page, known by its id and title; the texts are in
    KILT's knowledge source.

    Raises:
        FormatError: a field is absent or of another kind.
    """
    answers: dict[str, None] = {}
    pages: dict[str, Passage] = {}
    for output in record.parts("output", default=True):
        if "answer" in output:
            answers[output.nonblank("answer")] = None
        for provenance in output.parts("provenance", default=True):
            page = provenance.identifier("wikipedia_id")
            pages.setdefault(page, Passage(id=page, text="", title=provenance.text("title", default="")))
    return Example(
        id=record.identifier("id"),
        question=record.nonblank("input"),
        answers=tuple(answers),
        positives=tuple(pages.values()),
    )


def to_record(example: Example) -> dict[str, Any]:
    """KILT's record: one output for each answer, and one with the provenance."""
    output: list[dict[str, Any]] = [{"answer": answer} for answer in example.answers]
    if example.positives:
        pages = [{"wikipedia_id": page.id, "title": page.title} for page in example.positives]
        output.append({"provenance": pages})
    return {"id": example.id, "input": example.question, "output": output}


def hold(example: Example) -> Example:
    """Id, the different answers, and the positives by id and title."""
    pages: dict[str, Passage] = {}
    for passage in example.positives:
        pages.setdefault(passage.id, Passage(id=passage.id, text="", title=passage.title))
    answers = tuple(dict.fromkeys(example.answers))
    return Example(id=example.id, question=example.question, answers=answers, positives=tuple(pages.values()))
