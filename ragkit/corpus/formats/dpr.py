"""DPR's question files: bi-encoder JSON or JSONL, question and answer lists (CSV), retriever results, gold passages.

Source: https://github.com/facebookresearch/DPR. Contriever's fine-tuning files are the bi-encoder format.
"""

from __future__ import annotations

from typing import Any

from ragkit.corpus.formats.records import Record, passage_of, question_id
from ragkit.types import Example, Passage

_CTX_IDS = ("passage_id", "id", "psg_id", "docid")


def parse_biencoder(record: Record) -> Example:
    """The example of ``{question, answers, positive_ctxs, negative_ctxs?, hard_negative_ctxs?}``.

    Raises:
        FormatError: a field is absent or of another kind.
    """
    question = record.question("question")
    # as DPR: the simple negatives stand in only where there are no hard ones
    hard = record.parts("hard_negative_ctxs", default=True) or record.parts("negative_ctxs", default=True)
    return Example(
        id=record.identifier("id", "question_id", default=question_id(question)),
        question=question,
        answers=record.answers("answers"),
        positives=tuple(passage_of(ctx, *_CTX_IDS) for ctx in record.parts("positive_ctxs")),
        hard_negatives=tuple(passage_of(ctx, *_CTX_IDS) for ctx in hard),
    )


def biencoder_record(example: Example) -> dict[str, Any]:
    """The bi-encoder record of an example; ``id`` is ours, DPR ignores it."""
    return {
        "id": example.id,
        "question": example.question,
        "answers": list(example.answers),
        "positive_ctxs": [_ctx(passage) for passage in example.positives],
        "negative_ctxs": [],
        "hard_negative_ctxs": [_ctx(passage) for passage in example.hard_negatives],
    }


def _ctx(passage: Passage) -> dict[str, str]:
    return {"title": passage.title, "text": passage.text, "passage_id": passage.id}
