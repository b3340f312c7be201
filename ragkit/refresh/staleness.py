"""How much an index of earlier weights still finds what the present weights would find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from ragkit.corpus import PassageStore
from ragkit.index import VectorIndex, order_hits
from ragkit.index.vectors import normalized
from ragkit.retriever import DualEncoder

Rows = Int64[np.ndarray, "query k"]


def overlap(first: Int64[np.ndarray, "query _"], second: Rows) -> float:
    """The mean share of a query's hits in ``second`` that are also in ``first``; -1 is no hit, 1.0 where there is none.

    >>> overlap(np.array([[1, 2, 3, 4]]), np.array([[4, 3, 8, 9]]))
    0.5
    """
    shares = []
    for left, right in zip(first, second, strict=True):
        found = set(right[right >= 0].tolist())
        if found:
            shares.append(len(found.intersection(left.tolist())) / len(found))
    return float(np.mean(shares)) if shares else 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The fixed queries on which staleness is measured, at top ``k``, among the ``pool`` best stale hits."""

    queries: tuple[str, ...] = ()
    k: int = 10
    pool: int = 50


@dataclass(frozen=True, slots=True)
class Staleness:
    """``overlap``: the share of the fresh top k among the stale ones; ``encoded``: the passages it took to know."""

    overlap: float
    encoded: int


def measure_staleness(encoder: DualEncoder, index: VectorIndex, store: PassageStore, sample: Sample) -> Staleness:
    """Overlap of the stale top k with the fresh one, where only the best stale hits (the pool) are encoded anew.

    The fresh ranking is that of the candidates of all queries under the present weights, so the overlap is an upper
    bound: a passage outside every pool may have risen into a top k. A pool of the whole corpus makes it exact.
    """
    k = sample.k
    vectors = encoder.encode_queries(list(sample.queries))
    stale = index.search(vectors, max(k, sample.pool)).rows
    candidates = np.unique(stale[stale >= 0])
    passages = store.take(candidates)
    fresh = encoder.inference("passage").encode(encoder.passage_texts(passages)).vectors
    hits = _best(
        vectors, fresh, candidates, k=k, metric=index.manifest.vectors.metric if index.manifest.vectors else ""
    )
    return Staleness(overlap(stale[:, :k], hits), len(candidates))


def _best(
    queries: Float32[np.ndarray, "query dim"],
    passages: Float32[np.ndarray, "passage dim"],
    rows: Int64[np.ndarray, " passage"],
    *,
    k: int,
    metric: str,
) -> Rows:
    if metric == "cosine":
        queries, passages = normalized(queries), normalized(passages)
    scores = queries @ passages.T
    return order_hits(np.broadcast_to(rows, scores.shape), scores).rows[:, :k]
