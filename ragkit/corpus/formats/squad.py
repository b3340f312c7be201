"""SQuAD v1.1 (and v2.0) JSON: articles of paragraphs of questions; each question's paragraph is its positive."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ragkit.corpus.formats.holding import holding, only_text
from ragkit.corpus.formats.json_stream import records
from ragkit.corpus.formats.records import Record, passage_of
from ragkit.corpus.formats.table import Found
from ragkit.errors import FormatError
from ragkit.types import Example, Passage


def read(path: Path) -> Iterator[Found]:
    """The examples of a file, article by article; a fault names article, paragraph and question."""
    for article in records(path, under=("data",)):
        if isinstance(article, FormatError):
            yield article
            continue
        try:
            title = article.text("title", default="").replace("_", " ")
            paragraphs = article.parts("paragraphs")
        except FormatError as error:
            yield error
            continue
        for paragraph in paragraphs:
            yield from _questions(paragraph, title)


def _questions(paragraph: Record, title: str) -> Iterator[Found]:
    try:
        passage = passage_of(paragraph.inner({"title": title, "text": paragraph.value.get("context")}, "context"))
        questions = paragraph.parts("qas")
    except FormatError as error:
        yield error
        return
    for question in questions:
        try:
            answers = tuple(dict.fromkeys(_answer(answer, passage.text) for answer in question.parts("answers")))
            yield (
                question.line,
                Example(question.identifier("id"), question.nonblank("question"), answers, positives=(passage,)),
            )
        except FormatError as error:
            yield error


def _answer(answer: Record, context: str) -> str:
    text, start = answer.nonblank("text"), int(answer.number("answer_start", default=-1.0))
    if start >= 0 and not context.startswith(text, start):
        raise answer.fault(f"the answer {text!r} does not stand at 'answer_start' {start} of its paragraph")
    return text


def parse_row(record: Record) -> Example:
    """The example of a row of the hub's SQuAD: ``{id, title, context, question, answers: {text, answer_start}}``.

    Raises:
        FormatError: a field is absent or of another kind.
    """
    row = {"title": record.text("title", default="").replace("_", " "), "text": record.value.get("context")}
    return Example(
        id=record.identifier("id"),
        question=record.nonblank("question"),
        answers=tuple(dict.fromkeys(record.part("answers").answers("text"))),
        positives=(passage_of(record.inner(row, "context")),),
    )


def articles(examples: Iterable[Example]) -> Iterator[dict[str, Any]]:
    """Articles of examples with a positive: neighbours that share a title, then a paragraph, are together."""
    for title, of_title in itertools.groupby(examples, key=lambda example: example.positives[0].title):
        paragraphs = [
            {"context": context, "qas": [_qas(example) for example in of_context]}
            for context, of_context in itertools.groupby(of_title, key=lambda example: example.positives[0].text)
        ]
        yield {"title": title, "paragraphs": paragraphs}


def _qas(example: Example) -> dict[str, Any]:
    context = example.positives[0].text
    answers = [{"text": answer, "answer_start": context.find(answer)} for answer in example.answers]
    return {"id": example.id, "question": example.question, "answers": answers}


def hold(example: Example) -> Example | None:
    """Id, the different answers and the first positive by text, whose title has spaces for underscores."""
    if not example.positives:
        return None
    kept = holding("id", "answers")(example)
    return (
        replace(kept, answers=tuple(dict.fromkeys(example.answers)), positives=(_paragraph(example.positives[0]),))
        if kept
        else None
    )


def _paragraph(passage: Passage) -> Passage:
    return only_text(replace(passage, title=passage.title.replace("_", " ")))
