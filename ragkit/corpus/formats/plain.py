"""Formats of questions and answers without passages: NQ-open, TriviaQA, FlashRAG; and MSS's sentences with entities."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragkit.corpus.formats.holding import holding
from ragkit.corpus.formats.json_stream import records
from ragkit.corpus.formats.records import Record, question_id
from ragkit.corpus.formats.table import Found
from ragkit.errors import FormatError
from ragkit.types import Example

MASK = "[MASK]"


def parse_nq_open(record: Record) -> Example:
    """The example of ``{question, answer: [...]}``.

    Raises:
        FormatError: a field is absent or of another kind.
    """
    question = record.nonblank("question")
    return Example(
        id=record.identifier("id", default=question_id(question)), question=question, answers=record.answers("answer")
    )


def nq_open_record(example: Example) -> dict[str, Any]:
    """NQ-open's record, which has no id."""
    return {"question": example.question, "answer": list(example.answers)}


hold_nq_open = holding("answers")


def parse_triviaqa(record: Record) -> Example:
    """The example of ``{Question, QuestionId, Answer: {Value, Aliases}}``; the test file has no answers.

    As in FiD, the answers are the aliases and the target is the value, in title case where it is all capitals.

    Raises:
        FormatError: a field is absent or of another kind.
    """
    question = record.nonblank("Question")
    value, aliases = "", tuple[str, ...]()
    if "Answer" in record:
        answer = record.part("Answer")
        value = answer.text("Value")
        aliases = answer.answers("Aliases", default=(value,))
    return Example(
        id=record.identifier("QuestionId"), question=question, answers=aliases, target=_out_of_capitals(value)
    )


def parse_triviaqa_row(record: Record) -> Example:
    """The example of a row of the hub's TriviaQA: ``{question, question_id, answer: {value, aliases}}``.

    Raises:
        FormatError: a field is absent or of another kind.
    """
    answer = record.part("answer")
    return Example(
        id=record.identifier("question_id"),
        question=record.nonblank("question"),
        answers=answer.answers("aliases"),
        target=_out_of_capitals(answer.text("value", default="")),
    )


def triviaqa_record(example: Example) -> dict[str, Any]:
    """TriviaQA's record; without answers it is one of the test file."""
    record: dict[str, Any] = {"Question": example.question, "QuestionId": example.id}
    value = example.target or next(iter(example.answers), "")
    if value:
        record["Answer"] = {"Value": value, "Aliases": list(example.answers), "Type": "FreeForm"}
    return record


def hold_triviaqa(example: Example) -> Example:
    """Id, answers and a target, which is the first answer where there is none."""
    target = _out_of_capitals(example.target or next(iter(example.answers), ""))
    return Example(id=example.id, question=example.question, answers=example.answers, target=target)


def _out_of_capitals(text: str) -> str:
    return text.title() if text.isupper() else text


def parse_flashrag(record: Record) -> Example:
    """The example of ``{id, question, golden_answers, metadata?}``.

    Raises:
        FormatError: a field is absent or of another kind.
    """
    question = record.nonblank("question")
    return Example(
        id=record.identifier("id", default=question_id(question)),
        question=question,
        answers=record.answers("golden_answers"),
    )


def flashrag_record(example: Example) -> dict[str, Any]:
    """FlashRAG's record."""
    answers = list(example.answers)
    return {"id": example.id, "question": example.question, "golden_answers": answers, "metadata": {}}


hold_flashrag = holding("id", "answers")


def read_mss(path: Path) -> Iterator[Found]:
    """An example for each entity of each sentence of emdr2's masked salient spans.

    ``{doc_id, sent_text, linguistic_ent: [[text, type, start, end]]}``: the question is the sentence with
    :data:`MASK` in the entity's place, the answer is the entity. Where the offsets do not lead to the entity, its
    first occurrence is masked.
    """
    for record in records(path):
        if isinstance(record, FormatError):
            yield record
            continue
        try:
            yield from [(record.line, example) for example in _masked(record)]
        except FormatError as error:
            yield error


def _masked(record: Record) -> Iterator[Example]:
    sentence = record.nonblank("sent_text")
    entities = record.value.get("linguistic_ent")
    if not isinstance(entities, list):
        raise record.fault("wanted a list in 'linguistic_ent': [[text, type, start, end], ...]")
    for entity in entities:
        match entity:
            case [str(text), _, int(start), int(end)] if text.strip():
                start = start if sentence[start:end] == text else sentence.find(text)
            case _:
                raise record.fault(f"wanted [text, type, start, end] in 'linguistic_ent', got {entity!r}")
        if start < 0:
            raise record.fault(f"the entity {text!r} is not in the sentence")
        question = sentence[:start] + MASK + sentence[start + len(text) :]
        yield Example(id=question_id(question), question=question, answers=(text,))
