"""Tevatron's training files, JSONL, in the old and the new shape. Source: https://github.com/texttron/tevatron."""

from __future__ import annotations

from typing import Any

from ragkit.corpus.formats.holding import holding, only_id
from ragkit.corpus.formats.records import PASSAGE_IDS, Record, passage_of
from ragkit.types import Example, Passage


def parse_old(record: Record) -> Example:
    """The example of ``{query_id, query, answers?, positive_passages, negative_passages?}``.

    Raises:
        FormatError: a field is absent or of another kind.
    """
    return Example(
        id=record.identifier("query_id"),
        question=record.nonblank("query"),
        answers=record.answers("answers", default=()),
        positives=_passages(record, "positive_passages"),
        hard_negatives=_passages(record, "negative_passages"),
    )


def _passages(record: Record, key: str) -> tuple[Passage, ...]:
    return tuple(passage_of(passage, "docid", *PASSAGE_IDS) for passage in record.parts(key, default=True))


def old_record(example: Example) -> dict[str, Any]:
    """The record of Tevatron 1."""
    return {
        "query_id": example.id,
        "query": example.question,
        "answers": list(example.answers),
        "positive_passages": [_passage(passage) for passage in example.positives],
        "negative_passages": [_passage(passage) for passage in example.hard_negatives],
    }


def _passage(passage: Passage) -> dict[str, str]:
    return {"docid": passage.id, "title": passage.title, "text": passage.text}


hold_old = holding("id", "answers", "positives", "hard_negatives")


def parse_new(record: Record) -> Example:
    """The example of ``{query_id, query_text, positive_document_ids, negative_document_ids?}``: ids without texts.

    Raises:
        FormatError: a field is absent or of another kind.
    """
    return Example(
        id=record.identifier("query_id"),
        question=record.nonblank("query_text"),
        answers=record.answers("answers", default=()),
        positives=_ids(record, "positive_document_ids"),
        hard_negatives=_ids(record, "negative_document_ids"),
    )


def _ids(record: Record, key: str) -> tuple[Passage, ...]:
    ids = record.value.get(key)
    if isinstance(ids, list):
        found = [record.inner({"id": item}, f"{key}[{i}]").identifier("id") for i, item in enumerate(ids)]
        return tuple(Passage(id=passage_id, text="") for passage_id in found)
    if ids is None:
        return ()
    raise record.fault(f"wanted a list of ids in {key!r}")


def new_record(example: Example) -> dict[str, Any]:
    """The record of Tevatron 2; ``answers`` is ours, Tevatron ignores it."""
    return {
        "query_id": example.id,
        "query_text": example.question,
        "answers": list(example.answers),
        "positive_document_ids": [passage.id for passage in example.positives],
        "negative_document_ids": [passage.id for passage in example.hard_negatives],
    }


hold_new = holding("id", "answers", "positives", "hard_negatives", passage=only_id)
