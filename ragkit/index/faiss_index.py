"""Search in a FAISS index: exact scores and one order of ties for flat, the plain hits of FAISS for other kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64

from ragkit.errors import IndexMismatch, InputError
from ragkit.index.engine import blas_threshold
from ragkit.index.flat_file import map_flat
from ragkit.index.manifest import Manifest
from ragkit.index.order import order_hits
from ragkit.index.vectors import normalized
from ragkit.types import SearchResult

_SPARE = 8  # hits fetched beyond k, so that ties at the k-th place can be seen
_MOST_TIES = 16_384  # a query tied with more vectors than this keeps the ones that FAISS happened on
_ROUNDING = 4e-6  # float32 inner products of two orders of summation differ by less than this times the lengths
_GATHER_BYTES = 1 << 25


class FaissIndex:
    """An open index: memory-mapped where its kind allows, read-only, safe to search from several threads.

    Open one with :func:`ragkit.index.open_index`. ``stored`` are the vectors of a flat ``index`` that is not the file
    in ``folder``.
    """

    def __init__(
        self, index: Any, manifest: Manifest, folder: Path, *, stored: Float32[np.ndarray, "row dim"] | None = None
    ) -> None:
        if manifest.vectors is None:
            raise IndexMismatch(f"{folder} is a {manifest.kind} index and holds no vectors")
        self._index = index
        self.manifest = manifest
        self.folder = folder
        self.dim, self.metric = manifest.vectors.dim, manifest.vectors.metric
        is_flat = manifest.kind in {"flat", "Flat"}
        path = folder / "index.faiss"
        if stored is None and is_flat:
            stored = map_flat(path, count=manifest.count, dim=self.dim)
        self.stored = stored

    @property
    def store_digest(self) -> str:
        """Digest of the passage store whose rows these are; empty for vectors without passages."""
        return self.manifest.corpus_digest

    @property
    def generation(self) -> int:
        """The version counter of the index directory at the time of opening."""
        return self.manifest.origin.generation

    def __len__(self) -> int:
        """Number of vectors."""
        return self.manifest.count

    def search(self, vectors: Float[np.ndarray, "query dim"], k: int) -> SearchResult:
        """The ``k`` vectors with the largest inner product (cosine, if that is the metric) for every query.

        Where ``k`` is larger than the index, row -1 with score -inf fills the end. A flat index scores its hits in
        float64 and rounds to float32, so scores do not depend on the batch or the machine, and of equal scores the
        lower row comes first, also at the k-th place. Other kinds return what FAISS finds, in that order.

        Raises:
            InputError: k < 1, or a query is NaN or infinite (its number is named).
            IndexMismatch: the queries have another dimension than the index.
        """
        self._check(vectors, k)
        queries = normalized(vectors) if self.metric == "cosine" else np.ascontiguousarray(vectors, dtype=np.float32)
        if len(queries) == 0 or len(self) == 0:
            return SearchResult(np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf, np.float32))
        with blas_threshold.lowered():
            if self.stored is None:
                hits = self._plain(queries, k)
            else:
                hits = self._exact(queries, k, stored=self.stored, fetch=k + _SPARE)
        missing = ((0, 0), (0, max(0, k - hits.rows.shape[1])))
        rows = np.pad(hits.rows[:, :k], missing, constant_values=-1)
        return SearchResult(rows, np.pad(hits.scores[:, :k], missing, constant_values=-np.inf))

    def _check(self, vectors: Float[np.ndarray, "query dim"], k: int) -> None:
        if k < 1:
            raise InputError(f"k is {k}; ask for at least one hit")
        if vectors.shape[1] != self.dim:
            raise IndexMismatch(
                f"the queries have {vectors.shape[1]} dimensions, the index {self.folder} has {self.dim}; "
                "encode the queries with the encoder that made the index"
            )
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise InputError(
                f"query vectors {bad[:5].tolist()} of {len(vectors)} are NaN or infinite ({len(bad)} in all); "
                "look at these questions and at the encoder's weights"
            )

    def _plain(self, queries: Float32[np.ndarray, "query dim"], k: int) -> SearchResult:
        scores, rows = self._index.search(queries, min(k + _SPARE, len(self)))
        return order_hits(rows, scores)

    def _exact(
        self, queries: Float32[np.ndarray, "query dim"], k: int, *, stored: Float32[np.ndarray, "row dim"], fetch: int
    ) -> SearchResult:
        """At least ``k`` hits in the one order; a query whose k-th score may be shared further on is asked again."""
        fetch = min(fetch, len(self))
        rough, rows = self._index.search(queries, fetch)
        scores, longest = _exact_scores(queries, rows, stored)
        hits = order_hits(rows, scores)
        if fetch == len(self) or fetch >= k + _MOST_TIES:
            return hits
        slack = _ROUNDING * np.linalg.norm(queries, axis=1) * longest
        is_open = rough[:, -1] >= hits.scores[:, k - 1] - slack
        for query in np.flatnonzero(is_open):
            again = self._exact(queries[query : query + 1], k, stored=stored, fetch=4 * fetch)
            hits.rows[query, :k], hits.scores[query, :k] = again.rows[0, :k], again.scores[0, :k]
        return hits


def _exact_scores(
    queries: Float32[np.ndarray, "query dim"],
    rows: Int64[np.ndarray, "query k"],
    stored: Float32[np.ndarray, "row dim"],
) -> tuple[Float32[np.ndarray, "query k"], Float32[np.ndarray, " query"]]:
    """The inner products of every query with its hits, summed in float64; and the length of its longest hit."""
    scores = np.empty(rows.shape, np.float32)
    longest = np.empty(len(rows), np.float32)
    step = max(1, _GATHER_BYTES // (8 * stored.shape[1] * rows.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        found = stored[rows[part]].astype(np.float64)
        # einsum, not matmul: BLAS may sum equal vectors in two orders and so part a tie
        scores[part] = np.einsum("qd,qkd->qk", queries[part].astype(np.float64), found)
        longest[part] = np.sqrt(np.einsum("qkd,qkd->qk", found, found).max(axis=1))
    return scores, longest
