"""A flat index of which every process holds a part in memory; together they find what the whole index finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ragkit import distributed
from ragkit.errors import ConfigError
from ragkit.index.engine import load_faiss
from ragkit.index.faiss_index import FaissIndex
from ragkit.index.manifest import Manifest
from ragkit.index.order import order_hits
from ragkit.types import SearchResult


class ShardedIndex:
    """This process's part of ``whole``, rows rank * n / world to (rank + 1) * n / world, and the search over all parts.

    How many parts there are is decided when it is opened: the files know nothing of it. ``device`` is where the
    process group wants its tensors ("cpu" for gloo, a GPU for NCCL).

    Raises:
        ConfigError: the index is not flat.
    """

    def __init__(self, whole: FaissIndex, *, device: torch.device | None = None) -> None:
        if whole.stored is None:
            raise ConfigError(
                f"an index of kind {whole.manifest.kind} cannot be searched in parts; build a flat one "
                "(index=flat), or leave refresh.sharded=false"
            )
        self._whole, self._device = whole, device or torch.device("cpu")
        rank, world = distributed.rank(), distributed.world_size()
        self.start, stop = (number * len(whole) // world for number in (rank, rank + 1))
        # a copy, not the map: what is searched at every step is to stay in memory
        own = np.array(whole.stored[self.start : stop])
        flat = load_faiss().IndexFlatIP(whole.dim)
        flat.add(own)
        self._part = FaissIndex(flat, replace(whole.manifest, count=len(own)), whole.folder, stored=own)

    @property
    def manifest(self) -> Manifest:
        """That of the whole index."""
        return self._whole.manifest

    @property
    def folder(self) -> Path:
        """That of the whole index."""
        return self._whole.folder

    @property
    def store_digest(self) -> str:
        """Digest of the passage store whose rows these are."""
        return self._whole.store_digest

    @property
    def generation(self) -> int:
        """The version counter of the index directory at the time of opening."""
        return self._whole.generation

    def __len__(self) -> int:
        """Number of vectors in all parts."""
        return len(self._whole)

    def search(self, vectors: Float[np.ndarray, "query dim"], k: int) -> SearchResult:
        """As ``FaissIndex.search``, over all parts; every process must call it, with queries of its own."""
        everywhere = distributed.gather_rows(self._tensor(vectors.astype(np.float32))).cpu().numpy()
        found = self._part.search(everywhere, k)
        rows = np.where(found.rows >= 0, found.rows + self.start, -1)
        first = distributed.row_offset(len(vectors))
        own = slice(first, first + len(vectors))
        hits = order_hits(*(self._of_all_parts(part)[own] for part in (rows, found.scores)))
        return SearchResult(hits.rows[:, :k], hits.scores[:, :k])

    def _of_all_parts(self, found: np.ndarray) -> np.ndarray:
        """``[query, k]`` of every process side by side: ``[query, process * k]``."""
        parts = distributed.gather_rows(self._tensor(found)).cpu().numpy()
        side_by_side = parts.reshape(-1, *found.shape).transpose(1, 0, 2)
        whole: np.ndarray = side_by_side.reshape(len(found), -1)
        return whole

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)
