"""Pyserini's DPR run: one JSON object from question id to question, answers and contexts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ragkit.corpus.formats.holding import holding
from ragkit.corpus.formats.json_stream import members
from ragkit.corpus.formats.records import Record, hits_of, question_id
from ragkit.corpus.formats.table import Found
from ragkit.errors import FormatError
from ragkit.metrics import has_answer
from ragkit.types import Example, ScoredPassage


def read(path: Path) -> Iterator[Found]:
    """The examples of ``{qid: {question, answers, contexts: [{docid, score, text, has_answer}]}}``."""
    for member in members(path):
        if isinstance(member, FormatError):
            yield member
            continue
        key, record = member
        try:
            yield record.line, _parse(key, record)
        except FormatError as error:
            yield error


def _parse(key: str, record: Record) -> Example:
    question = record.nonblank("question")
    return Example(
        id=record.inner({"id": key}, "its key").identifier("id", default=question_id(question)),
        question=question,
        answers=record.answers("answers"),
        retrieved=tuple(map(_with_title, hits_of(record, "contexts", needs_score=True))),
    )


def _with_title(hit: ScoredPassage) -> ScoredPassage:
    title, line_end, text = hit.passage.text.partition("\n")
    if hit.passage.title or not line_end or len(title) < 2 or not title[0] == title[-1] == '"':
        return hit
    return replace(hit, passage=replace(hit.passage, title=title[1:-1], text=text))


def run_members(examples: Iterable[Example]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The members of the object; as in pyserini's Wikipedia, a text begins with its title in quotes on its own line."""
    for example in examples:
        contexts = [
            {
                "docid": hit.passage.id,
                "score": hit.score,
                "text": f'"{_in_one_line(hit.passage.title)}"\n{hit.passage.text}',
                "has_answer": has_answer(hit.passage.text, example.answers),
            }
            for hit in example.retrieved
        ]
        yield example.id, {"question": example.question, "answers": list(example.answers), "contexts": contexts}


def _in_one_line(title: str) -> str:
    return title.replace("\n", " ")


hold = holding(
    "id", "answers", "retrieved", passage=lambda passage: replace(passage, title=_in_one_line(passage.title))
)
