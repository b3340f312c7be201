"""Vector files (``vectors-00000-of-00004.npy``): their headers, and their rows in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Float32

from ragkit.errors import IndexCorrupt, InputError

BLOCK_ROWS = 8192


@dataclass(frozen=True, slots=True)
class VectorFile:
    """The header of one ``.npy`` file of vectors, ``[rows, dim]``."""

    path: Path
    rows: int
    dim: int
    dtype: np.dtype[np.floating]
    offset: int


def vector_header(path: Path) -> VectorFile:
    """The header of ``path``; IndexCorrupt unless it is a whole C-ordered float16 or float32 matrix."""
    if not path.is_file():
        raise IndexCorrupt(f"{path} is missing; run the same ragkit index command again to encode it anew")
    with path.open("rb") as file:
        try:
            shape, is_fortran, dtype = _read_header(file)
        except ValueError as error:
            raise IndexCorrupt(f"{path} is no .npy file of vectors: {error}; delete it and run again") from error
        offset = file.tell()
    if len(shape) != 2 or is_fortran or dtype not in (np.float16, np.float32):  # noqa: PLR2004  rows, dim
        raise IndexCorrupt(f"{path} holds {dtype} {shape}; wanted C-ordered float16 or float32 [rows, dim]")
    wanted, found = offset + shape[0] * shape[1] * dtype.itemsize, path.stat().st_size
    if found != wanted:
        raise IndexCorrupt(f"{path} has {found} bytes where its header says {wanted}; delete it and run again")
    return VectorFile(path, shape[0], shape[1], dtype, offset)


def vector_headers(paths: Sequence[Path]) -> list[VectorFile]:
    """The headers of files that together make one matrix; all must agree on the dimension."""
    if not paths:
        raise InputError("an index needs at least one vector file, and there is none")
    headers = [vector_header(path) for path in paths]
    for header in headers:
        if header.dim != headers[0].dim:
            raise InputError(f"{header.path} has {header.dim} dimensions and {headers[0].path} has {headers[0].dim}")
    return headers


def read_rows(file: VectorFile, start: int, stop: int) -> Float32[np.ndarray, "row dim"]:
    """Rows ``start`` to ``stop`` (exclusive) of a vector file, read and not mapped: the memory is the rows alone."""
    count = (stop - start) * file.dim
    offset = file.offset + start * file.dim * file.dtype.itemsize
    # fromfile refuses to read nothing at the end of a file; an empty block needs no reading
    flat = np.fromfile(file.path, dtype=file.dtype, count=count, offset=offset) if count else np.empty(0, file.dtype)
    if len(flat) != count:
        raise IndexCorrupt(f"{file.path} ended at row {start + len(flat) // file.dim} of {file.rows} while being read")
    return flat.reshape(stop - start, file.dim).astype(np.float32, copy=False)


def vector_blocks(files: Sequence[VectorFile], *, rows: int = BLOCK_ROWS) -> Iterator[Float32[np.ndarray, "row dim"]]:
    """All rows of the files, in order, as blocks of at most ``rows``."""
    for file in files:
        for start in range(0, file.rows, rows):
            yield read_rows(file, start, min(start + rows, file.rows))


def normalized(vectors: Float[np.ndarray, "row dim"]) -> Float32[np.ndarray, "row dim"]:
    """The vectors divided by their lengths; a zero vector stays zero."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    unit: np.ndarray = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return unit.astype(np.float32)


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[np.floating]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version} of the .npy format")
