"""The rows that searches have found since the last refresh, as one bit each."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import torch
from jaxtyping import Int64

from ragkit.distributed import gather_rows


class SearchedRows:
    """A set of rows of a store; the same in every process, for :meth:`add` gathers what all of them found."""

    def __init__(self, count: int) -> None:
        self._bits = np.zeros(count, dtype=bool)

    def add(self, rows: Int64[np.ndarray, "query k"], *, device: torch.device) -> None:
        """Add the rows that some process found; -1 is no row. Every process calls it, with as many rows as it has."""
        everywhere = gather_rows(torch.from_numpy(rows.reshape(-1)).to(device)).cpu().numpy()
        self._bits[everywhere[everywhere >= 0]] = True

    def take(self) -> Int64[np.ndarray, " row"]:
        """The rows, ascending; the set is empty afterwards."""
        rows = np.flatnonzero(self._bits).astype(np.int64)
        self._bits[:] = False
        return rows

    def state(self) -> str:
        """The set as text."""
        return base64.b64encode(zlib.compress(np.packbits(self._bits).tobytes())).decode()

    def load(self, state: str) -> None:
        """The set that :meth:`state` gave."""
        packed = np.frombuffer(zlib.decompress(base64.b64decode(state)), dtype=np.uint8)
        self._bits = np.unpackbits(packed, count=len(self._bits)).astype(bool)
