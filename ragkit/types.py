"""The records every part of ragkit exchanges: frozen dataclasses for single things, arrays for batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64


@dataclass(frozen=True, slots=True)
class Passage:
    """The unit that is indexed, retrieved and read.

    ``id`` is the string the corpus gave (the passage_id); ``text`` excludes the title.
    """

    id: str
    text: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A source text before it is split into passages."""

    id: str
    text: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class ScoredPassage:
    """A passage that some retriever returned, with that retriever's score (larger is better)."""

    passage: Passage
    score: float


@dataclass(frozen=True, slots=True)
class Example:
    """A question with its gold answers and what is known about its passages.

    ``positives`` are gold passages and ``hard_negatives`` passages known not to answer; a passage of which a
    file gives only the id has an empty text. ``retrieved`` are hits that a file carried along (DPR and FiD
    ``ctxs``), best first. ``target`` is the answer to train on where a file names one (FiD, Atlas), else "".
    """

    id: str
    question: str
    answers: tuple[str, ...]
    positives: tuple[Passage, ...] = ()
    hard_negatives: tuple[Passage, ...] = ()
    retrieved: tuple[ScoredPassage, ...] = ()
    target: str = ""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of a batch of queries, best first.

    A missing hit is row -1 with score -inf, always at the end of its line; equal scores are in order of row,
    so that two machines agree. Build one from unordered hits with :func:`ragkit.index.order.order_hits`.
    """

    rows: Int64[np.ndarray, "query k"]
    scores: Float32[np.ndarray, "query k"]

    def __post_init__(self) -> None:
        if self.rows.shape != self.scores.shape or self.rows.ndim != 2:
            raise ValueError(f"rows {self.rows.shape} and scores {self.scores.shape} must both be [query, k]")

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A passage the reader saw: the retriever's score of it, and its contribution to the answer.

    The contribution is a share in [0, 1]; 0 throughout where it would cost extra and nobody asked for it.
    """

    passage: Passage
    retriever_score: float
    contribution: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The reader's answer to one question.

    ``score`` is the reader's own confidence, comparable between questions of one reader only; ``evidence`` is
    in order of contribution, largest first. No answer found is the empty text with score -inf.
    """

    text: str
    score: float
    evidence: tuple[Evidence, ...] = ()
