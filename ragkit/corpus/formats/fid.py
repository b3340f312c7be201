"""FiD's reader data, JSON list or JSONL. Source: https://github.com/facebookresearch/FiD."""

from __future__ import annotations

from typing import Any

from ragkit.corpus.formats.holding import holding
from ragkit.corpus.formats.records import Record, hits_of, question_id
from ragkit.metrics import has_answer
from ragkit.types import Example


def parse(record: Record) -> Example:
    """The example of ``{id?, question, target?, answers?, ctxs: [{id?, title, text, score?}]}``.

    A hit without a score gets 1/rank. (FiD gives all hits of one question the same, by a slip: 1/(k+1) of the
    question's place in the file.)

    Raises:
        FormatError: a field is absent or of another kind.
    """
    question = record.nonblank("question")
    target = record.text("target", default="")
    return Example(
        id=record.identifier("id", "question_id", default=question_id(question)),
        question=question,
        answers=record.answers("answers", default=(target,) if target else None),
        retrieved=hits_of(record, "ctxs"),
        target=target,
    )


def to_record(example: Example) -> dict[str, Any]:
    """FiD's record; ``hasanswer`` is DPR's token match."""
    hits = [
        {
            "id": hit.passage.id,
            "title": hit.passage.title,
            "text": hit.passage.text,
            "score": hit.score,
            "hasanswer": has_answer(hit.passage.text, example.answers),
        }
        for hit in example.retrieved
    ]
    target = {"target": example.target} if example.target else {}
    return {"id": example.id, "question": example.question, **target, "answers": list(example.answers), "ctxs": hits}


hold = holding("id", "answers", "target", "retrieved")
