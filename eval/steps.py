"""The two slow steps of an evaluation, timed: searching and reading."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from ragkit.progress import progress
from ragkit.reader.protocol import Reader
from ragkit.retriever.protocol import Retriever
from ragkit.types import Example, Prediction, ScoredPassage, SearchResult

from .relevance import Passages

_SEARCH_BATCH = 256  # questions
_READ_BATCH = 8  # questions


def search(retriever: Retriever, questions: Sequence[str], *, k: int) -> tuple[SearchResult, float]:
    """The hits of all questions, and the seconds it took once warm (compiled code, mapped files)."""
    retriever.search(questions[:1], k=k)
    started = time.perf_counter()
    starts = progress(range(0, len(questions), _SEARCH_BATCH), description="searching")
    found = [retriever.search(questions[start : start + _SEARCH_BATCH], k=k) for start in starts]
    seconds = time.perf_counter() - started
    return SearchResult(np.concatenate([f.rows for f in found]), np.concatenate([f.scores for f in found])), seconds


def read(
    reader: Reader, examples: Sequence[Example], found: tuple[SearchResult, Passages], *, n_passages: int
) -> tuple[list[Prediction], float]:
    """The reader's answers from the first passages of every question, and the seconds they took."""
    hits, store = found
    started = time.perf_counter()
    predictions: list[Prediction] = []
    for start in progress(range(0, len(examples), _READ_BATCH), description="reading"):
        batch = range(start, min(start + _READ_BATCH, len(examples)))
        passages = [_scored(hits, store, query=query, n_passages=n_passages) for query in batch]
        predictions += reader.answer([examples[query].question for query in batch], passages)
    return predictions, time.perf_counter() - started


def _scored(hits: SearchResult, store: Passages, *, query: int, n_passages: int) -> list[ScoredPassage]:
    rows, scores = hits.rows[query, :n_passages], hits.scores[query, :n_passages]
    passages = store.take(rows[rows >= 0])
    return [ScoredPassage(passage, float(score)) for passage, score in zip(passages, scores, strict=False)]
