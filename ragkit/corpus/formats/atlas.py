"""Atlas' task files, JSONL. Source: https://github.com/facebookresearch/atlas (src/tasks)."""

from __future__ import annotations

from typing import Any

from ragkit.corpus.formats.holding import holding
from ragkit.corpus.formats.records import Record, hits_of, question_id, shown
from ragkit.types import Example

_LABELS = ("SUPPORTS", "REFUTES", "NOT ENOUGH INFO")


def parse_qa(record: Record) -> Example:
    """The example of ``{question, answers, target?, passages?, id?}``, which plain question files are too.

    Raises:
        FormatError: a field is absent or of another kind.
    """
    question = record.nonblank("question")
    return Example(
        id=record.identifier("id", "question_id", default=question_id(question)),
        question=question,
        answers=record.answers("answers"),
        retrieved=hits_of(record, "passages"),
        target=record.text("target", default=""),
    )


def qa_record(example: Example) -> dict[str, Any]:
    """Atlas' question record; it has passages only where the example has hits."""
    hits = [
        {"id": hit.passage.id, "title": hit.passage.title, "text": hit.passage.text, "score": hit.score}
        for hit in example.retrieved
    ]
    return {
        "id": example.id,
        "question": example.question,
        **({"target": example.target} if example.target else {}),
        "answers": list(example.answers),
        **({"passages": hits} if hits else {}),
    }


hold_qa = holding("id", "answers", "target", "retrieved")


def parse_base(record: Record) -> Example:
    """The example of ``{query, target}``: the target is the one answer.

    Raises:
        FormatError: a field is absent or blank.
    """
    question, target = record.nonblank("query"), record.nonblank("target")
    return Example(
        id=record.identifier("id", default=question_id(question)), question=question, answers=(target,), target=target
    )


def base_record(example: Example) -> dict[str, Any]:
    """Atlas' base record of an example with an answer."""
    return {"id": example.id, "query": example.question, "target": _target(example)}


def hold_base(example: Example) -> Example | None:
    """The target, or else the first answer, as the one answer."""
    target = _target(example)
    return Example(id=example.id, question=example.question, answers=(target,), target=target) if target else None


def _target(example: Example) -> str:
    return example.target or next(iter(example.answers), "")


def parse_choice(record: Record) -> Example:
    """The example of ``{question, options: {A: ...}, answer: A}``: the answer is the text of the right option.

    Raises:
        FormatError: a field is absent, or the answer is none of the options.
    """
    question = record.nonblank("question")
    options, letter = record.part("options"), record.text("answer")
    if letter not in options:
        raise record.fault(f"the answer {letter!r} is none of the options {sorted(options.value)}")
    return Example(
        id=record.identifier("id", default=question_id(question)),
        question=question,
        answers=(options.nonblank(letter),),
    )


def parse_fever(record: Record) -> Example:
    """The example of ``{claim, label}``: the label is the answer.

    Raises:
        FormatError: a field is absent, or the label is unknown.
    """
    claim, label = record.nonblank("claim"), record.text("label")
    if label not in _LABELS:
        raise record.fault(f"wanted a label of {_LABELS}, got {shown(label)}")
    return Example(id=record.identifier("id", default=question_id(claim)), question=claim, answers=(label,))


def fever_record(example: Example) -> dict[str, Any]:
    """The record of an example whose answer is a label."""
    return {"id": example.id, "claim": example.question, "label": example.answers[0]}


def hold_fever(example: Example) -> Example | None:
    """Id and the one answer, if that is a label."""
    if len(example.answers) == 1 and example.answers[0] in _LABELS:
        return Example(id=example.id, question=example.question, answers=example.answers)
    return None


def parse_output(record: Record) -> Example:
    """The example of a line of ``NAME-step-N.jsonl``; the generation itself is a prediction and is not kept.

    Raises:
        FormatError: a field is absent or of another kind.
    """
    question = record.nonblank("query")
    return Example(
        id=record.identifier("id", default=question_id(question)),
        question=question,
        answers=record.answers("answers"),
        retrieved=hits_of(record, "passages"),
    )
