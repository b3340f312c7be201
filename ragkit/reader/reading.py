"""From the logits of passages to an answer: DPR's rules of inference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ragkit.reader.inputs import EncodedPassage
from ragkit.reader.spans import Span, best_spans, cut
from ragkit.types import Evidence, Prediction, ScoredPassage


@dataclass(frozen=True, slots=True)
class Answer:
    """A span of a passage as text; ``log_probability`` is log P(start) + log P(end) in that passage (natural log)."""

    text: str
    span: Span
    log_probability: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader found in one passage: its answers, best first, and its relevance.

    ``relevance`` is the selection logit, comparable between the passages of one question; it is -inf for a passage
    in which no answer is possible because it has no text.
    """

    relevance: float
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class PassageLogits:
    """One passage's start and end logits over all its tokens, padding left out, and its selection logit."""

    start: Float[np.ndarray, " token"]
    end: Float[np.ndarray, " token"]
    selection: float


def read_passage(encoded: EncodedPassage, text: str, *, logits: PassageLogits, max_tokens: int, limit: int) -> Reading:
    """The ``limit`` best answers in a passage's own text, never in question, title, separators or padding."""
    inside = slice(encoded.text_at, encoded.text_at + len(encoded.words))
    start, end = logits.start[inside], logits.end[inside]
    spans = best_spans(start, end, words=encoded.words, max_tokens=max_tokens, limit=limit)
    normalizer = float(np.logaddexp.reduce(logits.start) + np.logaddexp.reduce(logits.end))
    answers = tuple(Answer(cut(text, encoded.offsets, span), span, span.score - normalizer) for span in spans)
    return Reading(logits.selection if answers else -np.inf, answers)


def select(readings: Sequence[Reading], hits: Sequence[ScoredPassage]) -> Prediction:
    """The best answer of the most relevant passage, with every passage's share of the relevance (a softmax).

    Equal relevance: the passage retrieved higher. No passage with an answer: the empty prediction.
    """
    relevance = np.array([reading.relevance for reading in readings], dtype=np.float64)
    if not np.isfinite(relevance).any():
        evidence = tuple(Evidence(hit.passage, hit.score, 0.0) for hit in hits)
        return Prediction("", float("-inf"), evidence)
    log_shares = relevance - np.logaddexp.reduce(relevance)
    order = np.argsort(-relevance, kind="stable")
    evidence = tuple(Evidence(hits[i].passage, hits[i].score, min(float(np.exp(log_shares[i])), 1.0)) for i in order)
    best = readings[order[0]].answers[0]
    return Prediction(best.text, float(log_shares[order[0]]) + best.log_probability, evidence)


def length_batches(lengths: Sequence[int], *, budget: int) -> Iterator[list[int]]:
    """Rows in batches of at most ``budget`` tokens, padding included, the longest first; one row at least.

    >>> list(length_batches([3, 9, 4, 2], budget=9))
    [[1], [2, 0], [3]]
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
