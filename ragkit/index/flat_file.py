"""FAISS's file of a flat inner-product index, written block by block: memory does not grow with the vectors."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float32

# faiss/impl/index_write.cpp: fourcc, d, ntotal, two unused numbers, is_trained, metric_type, then the codes' length
# in units of 4 bytes. All little-endian, not padded.
_HEADER = struct.Struct("<4siqqq?iQ")
_UNUSED = 1 << 20
_INNER_PRODUCT = 0
HEADER_BYTES = _HEADER.size


def write_flat(path: Path, blocks: Iterable[Float32[np.ndarray, "_ dim"]], *, count: int, dim: int) -> None:
    """Write ``count`` vectors, which come in blocks, as the file that FAISS writes of an ``IndexFlatIP``."""
    written = 0
    with path.open("wb") as file:
        file.write(_HEADER.pack(b"IxFI", dim, count, _UNUSED, _UNUSED, True, _INNER_PRODUCT, count * dim))
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype="<f4").data)
            written += len(block)
    if written != count:
        raise ValueError(f"{written} vectors came where {count} were announced")


def map_flat(path: Path, *, count: int, dim: int) -> Float32[np.ndarray, "row dim"]:
    """The vectors of a file of :func:`write_flat`, memory-mapped and read-only."""
    if count == 0:
        return np.empty((0, dim), dtype=np.float32)
    return np.memmap(path, dtype="<f4", mode="r", offset=HEADER_BYTES, shape=(count, dim))
