"""Dense retrieval: an encoder for the queries, an index of the passages' vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from ragkit.errors import InputError
from ragkit.index import VectorIndex
from ragkit.types import SearchResult


@runtime_checkable
class QueryEncoder(Protocol):
    """What dense retrieval needs of an encoder; :class:`ragkit.retriever.DualEncoder` has it."""

    @property
    def dim(self) -> int:
        """The length of its vectors."""
        ...

    @property
    def digest(self) -> str:
        """Sha256 of all that decides its vectors."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Float32[np.ndarray, "query dim"]:
        """The vectors of questions, in their order."""
        ...


class DenseRetriever:
    """Finds passages by the inner product (or cosine) of their stored vectors with the query's.

    The encoder must be the one that made the index: another dimension or digest is an :class:`IndexMismatch`.
    ``allow_stale=True`` lets the digest differ, as while a retriever is trained against an index of earlier weights;
    ``is_stale`` says that it did.
    """

    def __init__(self, encoder: QueryEncoder, index: VectorIndex, *, allow_stale: bool = False) -> None:
        made_by = index.manifest.encoder
        digest = encoder.digest if made_by else ""  # reads every weight, so only once
        index.manifest.require(index.folder.parent, dim=encoder.dim)
        self.is_stale = made_by is not None and made_by.digest != digest
        if not allow_stale and made_by is not None:
            index.manifest.require(index.folder.parent, encoder_digest=digest)
        self.encoder, self.index = encoder, index

    @property
    def corpus_digest(self) -> str:
        """Digest of the passage store that the rows point into."""
        return self.index.store_digest

    def search(self, queries: Sequence[str], *, k: int) -> SearchResult:
        """The best ``k`` passages of every query; a blank query has none (-1), not the arbitrary first rows."""
        if isinstance(queries, str):
            raise InputError(f"search takes a list of queries; got the one string {queries[:60]!r}: write [query]")
        if not queries:
            return SearchResult(np.empty((0, k), np.int64), np.empty((0, k), np.float32))
        hits = self.index.search(self.encoder.encode_queries(list(queries)), k)
        blank = [number for number, query in enumerate(queries) if not query.strip()]
        hits.rows[blank], hits.scores[blank] = -1, -np.inf
        return hits
