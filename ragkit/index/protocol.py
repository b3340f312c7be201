"""What dense retrieval needs of an index of vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from ragkit.index.manifest import Manifest
from ragkit.types import SearchResult


@runtime_checkable
class VectorIndex(Protocol):
    """An open index: :class:`ragkit.index.FaissIndex`, or :class:`ragkit.index.sharded.ShardedIndex`."""

    @property
    def manifest(self) -> Manifest:
        """What its generation holds, and what made it."""
        ...

    @property
    def folder(self) -> Path:
        """The folder of its generation."""
        ...

    @property
    def store_digest(self) -> str:
        """Digest of the passage store whose rows these are; empty for vectors without passages."""
        ...

    @property
    def generation(self) -> int:
        """The version counter of the index directory at the time of opening."""
        ...

    def search(self, vectors: Float[np.ndarray, "query dim"], k: int) -> SearchResult:
        """The ``k`` vectors with the largest inner product (cosine, if that is the metric) for every query."""
        ...
