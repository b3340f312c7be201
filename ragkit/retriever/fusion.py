"""One ranking out of several retrievers' over the same passages: by reciprocal ranks, or by weighted scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from ragkit.errors import ConfigError, IndexMismatch
from ragkit.index.order import order_hits
from ragkit.retriever.bm25 import check_search
from ragkit.retriever.protocol import Retriever
from ragkit.types import SearchResult

RRF_CONSTANT = 60.0


def reciprocal_ranks(hits: SearchResult, *, constant: float = RRF_CONSTANT) -> Float64[np.ndarray, "query k"]:
    """``1 / (constant + rank)`` of every hit, ranks from 1 (Cormack and others 2009); a missing hit has 0."""
    ranks = np.arange(1, hits.rows.shape[1] + 1)
    return np.where(hits.rows >= 0, np.reciprocal(constant + ranks), 0.0)


def scaled_scores(hits: SearchResult) -> Float64[np.ndarray, "query k"]:
    """Every score on the scale of its query: 1 for the best hit, 0 for the worst one found (min-max); missing: 0.

    Where all of a query's hits score the same, each has 1.
    """
    found = hits.rows >= 0
    scores = hits.scores.astype(np.float64)
    best = np.where(found, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    worst = np.where(found, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    return _scale(scores, best, worst, found)


def _scale(
    scores: Float[np.ndarray, "query k"],
    best: Float[np.ndarray, "query 1"],
    worst: Float[np.ndarray, "query 1"],
    found: Bool[np.ndarray, "query k"],
) -> Float64[np.ndarray, "query k"]:
    spread = np.where(best > worst, best, 1.0) - np.where(best > worst, worst, 0.0)
    above = np.where(found, scores, 0.0) - np.where(best > worst, worst, 0.0)
    return np.where(found, np.where(best > worst, above / spread, 1.0), 0.0)


METHODS = ("rrf", "weighted")


class Fusion:
    """A retriever that asks several others and ranks by the weighted sum of what each gives a passage.

    ``method="rrf"`` sums :func:`reciprocal_ranks`, which needs no scores to be comparable; ``"weighted"`` sums
    :func:`scaled_scores`. ``weights`` has one weight a retriever (None: all 1). Each is asked for ``depth`` hits,
    or k if that is more, so that the first 10 of 20 hits are those of a search for 10.
    """

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        *,
        method: str = "rrf",
        weights: Sequence[float | int] | None = None,
        constant: float = RRF_CONSTANT,
        depth: int = 100,
    ) -> None:
        self.retrievers = tuple(retrievers)
        self.weights = _checked_weights(weights, n_retrievers=len(self.retrievers))
        if method not in METHODS:
            raise ConfigError(f"unknown fusion {method!r}; choose from {list(METHODS)}")
        if not constant > -1:
            raise ConfigError(f"the constant of reciprocal ranks is {constant}; it must be above -1, 60 is usual")
        self.corpus_digest = _shared_digest(self.retrievers)
        self.depth = depth
        self._gain: Callable[[SearchResult], np.ndarray] = scaled_scores
        if method == "rrf":
            self._gain = lambda hits: reciprocal_ranks(hits, constant=constant)

    def search(self, queries: Sequence[str], *, k: int) -> SearchResult:
        """The k passages with the largest sums, by sum, then row; a passage that no retriever found is no hit."""
        check_search(queries, k=k)
        found = [retriever.search(queries, k=max(k, self.depth)) for retriever in self.retrievers]
        rows = np.concatenate([hits.rows for hits in found], axis=1)
        gains = [weight * self._gain(hits) for weight, hits in zip(self.weights, found, strict=True)]
        fused = order_hits(*_summed(rows, np.concatenate(gains, axis=1), k=k))
        return SearchResult(fused.rows[:, :k], fused.scores[:, :k])


def _summed(
    rows: Int64[np.ndarray, "query hit"], gains: Float64[np.ndarray, "query hit"], *, k: int
) -> tuple[Int64[np.ndarray, "query width"], Float64[np.ndarray, "query width"]]:
    """Each row once per query, with the sum of its gains; at least k places wide, filled with -1 and -inf."""
    shape = (len(rows), max(k, rows.shape[1]))
    out_rows, out_gains = np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf)
    for query, (line, gain) in enumerate(zip(rows, gains, strict=True)):
        is_hit = line >= 0
        distinct, places = np.unique(line[is_hit], return_inverse=True)
        out_rows[query, : len(distinct)] = distinct
        out_gains[query, : len(distinct)] = np.bincount(places, weights=gain[is_hit], minlength=len(distinct))
    return out_rows, out_gains


def _checked_weights(weights: Sequence[float | int] | None, *, n_retrievers: int) -> tuple[float, ...]:
    if n_retrievers == 0:
        raise ConfigError("a fusion needs at least one retriever")
    chosen = tuple(float(weight) for weight in weights) if weights is not None else (1.0,) * n_retrievers
    if len(chosen) != n_retrievers:
        raise ConfigError(f"{len(chosen)} weights for {n_retrievers} retrievers; give one weight a retriever")
    if not all(0 <= weight < np.inf for weight in chosen) or not any(chosen):
        raise ConfigError(f"the weights are {list(chosen)}; they must be 0 or more, and one of them above 0")
    return chosen


def _shared_digest(retrievers: Sequence[Retriever]) -> str:
    digests = [retriever.corpus_digest for retriever in retrievers]
    if len(set(digests)) > 1:
        shown = ", ".join(digest[:8] for digest in digests)
        raise IndexMismatch(
            f"the retrievers to fuse search different corpora (digests {shown}), so their rows mean different "
            "passages; build their indexes from one corpus file with ragkit index"
        )
    return digests[0]
