"""What the rest of ragkit needs from a retriever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ragkit.types import SearchResult


@runtime_checkable
class Retriever(Protocol):
    """Anything that finds passages of one store by the text of a query: dense, BM25, or a fusion of several."""

    @property
    def corpus_digest(self) -> str:
        """Digest of the passage store that the rows of :meth:`search` point into."""
        ...

    def search(self, queries: Sequence[str], *, k: int) -> SearchResult:
        """The best ``k`` passages of every query, ``[query, k]``; k larger than the corpus leaves missing hits (-1)."""
        ...
