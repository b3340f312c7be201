"""From vector files to ``index.faiss``; a flat index is streamed, so its memory does not grow with the vectors."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from ragkit.errors import ConfigError, IndexCorrupt, NonFiniteVectors
from ragkit.index.engine import blas_threshold, load_faiss, read_faiss, set_search_parameters
from ragkit.index.flat_file import write_flat
from ragkit.index.manifest import VectorInfo
from ragkit.index.spec import IndexSpec
from ragkit.index.vectors import VectorFile, normalized, read_rows, vector_blocks, vector_headers
from ragkit.progress import progress

FAISS_NAME = "index.faiss"

_NAMED = 5  # how many bad rows a message lists

NameRows = Callable[[list[int]], str]


def build_index(
    vector_files: Sequence[Path], spec: IndexSpec, folder: Path, *, name_rows: NameRows | None = None
) -> VectorInfo:
    """Write ``folder/index.faiss`` over the rows of ``vector_files``, in order, and read it back once.

    ``name_rows`` says in an error which passages some rows are. A flat index takes the memory of one block of
    vectors; other kinds are built in memory, as FAISS builds them.

    Raises:
        NonFiniteVectors: a vector is NaN or infinite; no index is left in ``folder``.
        ConfigError: FAISS has no such kind, or not for inner products, or too few vectors to train it.
        IndexCorrupt: a vector file is missing or cut short.
    """
    files = vector_headers(vector_files)
    count, dim = sum(file.rows for file in files), files[0].dim
    blocks = _Checked(files, spec.metric, name_rows)
    path = folder / FAISS_NAME
    try:
        if spec.is_exact:
            write_flat(path, blocks, count=count, dim=dim)
        else:
            _write_any(path, _built(spec, files, blocks))
        _read_back(path, count=count, dim=dim, spec=spec)
    except BaseException:  # also a Ctrl-C: half an index must not stay
        path.unlink(missing_ok=True)
        raise
    return VectorInfo(metric=spec.metric, dim=dim, dtype=str(files[0].dtype), zero_vectors=blocks.zero_vectors)


class _Checked:
    """The blocks of the files as they go into the index: finite, normalised for cosine; counts the zero vectors."""

    def __init__(self, files: Sequence[VectorFile], metric: str, name_rows: NameRows | None) -> None:
        self.files, self.metric, self.zero_vectors = files, metric, 0
        self._name_rows = name_rows or (lambda rows: f"rows {', '.join(map(str, rows))}")

    def __iter__(self) -> Iterator[Float32[np.ndarray, "row dim"]]:
        done = 0
        for block in _with_progress(self.files):
            self._refuse_non_finite(block, done)
            self.zero_vectors += int((~block.any(axis=1)).sum())
            yield normalized(block) if self.metric == "cosine" else block
            done += len(block)

    def _refuse_non_finite(self, block: Float32[np.ndarray, "row dim"], start: int) -> None:
        bad = np.flatnonzero(~np.isfinite(block).all(axis=1)) + start
        if len(bad):
            named = self._name_rows(bad[:_NAMED].tolist())
            more = f" and at least {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
            raise NonFiniteVectors(
                f"NaN or infinite vectors at {named}{more}; nothing was indexed. Look at these passages and the "
                "encoder's weights, encode in float32 if it was bfloat16, delete the vector files and run again"
            )


def _with_progress(files: Sequence[VectorFile]) -> Iterable[Float32[np.ndarray, "row dim"]]:
    blocks = vector_blocks(files)
    return progress(blocks, description="indexing", total=sum(-(-file.rows // 8192) for file in files))


def _built(spec: IndexSpec, files: Sequence[VectorFile], blocks: _Checked) -> Any:
    """A FAISS index of ``spec`` over all vectors, in memory."""
    faiss = load_faiss()
    count, dim = sum(file.rows for file in files), files[0].dim
    factory = spec.factory(count)
    try:
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
        if index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise ConfigError(f"the FAISS index {factory!r} does not search by inner product; choose another kind")
        if spec.kind == "hnsw":
            index.hnsw.efConstruction = spec.ef_construction
        set_search_parameters(index, spec.search)
        with blas_threshold.lowered():
            if not index.is_trained:
                index.train(_sample(files, spec))
            for block in blocks:
                index.add(block)
    except RuntimeError as error:
        raise ConfigError(
            f"FAISS cannot build {factory!r} over {count} vectors of {dim} dimensions by inner product: "
            f"{str(error).rsplit('Error: ', maxsplit=1)[-1]}"
        ) from error
    return index


def _sample(files: Sequence[VectorFile], spec: IndexSpec) -> Float32[np.ndarray, "row dim"]:
    """``train_rows`` vectors, evenly spaced over the corpus: the same on every machine."""
    count = sum(file.rows for file in files)
    wanted = np.unique(np.linspace(0, max(count - 1, 0), min(count, spec.train_rows)).astype(np.int64))
    parts, start = [], 0
    for file in files:
        for first in range(0, file.rows, 8192):
            last = min(first + 8192, file.rows)
            inside = wanted[(wanted >= start + first) & (wanted < start + last)] - start - first
            parts.append(read_rows(file, first, last)[inside])
        start += file.rows
    sample = np.concatenate(parts) if parts else np.empty((0, files[0].dim), np.float32)
    sample = sample[np.isfinite(sample).all(axis=1)]  # adding names them; training must get that far
    return normalized(sample) if spec.metric == "cosine" else sample


def _write_any(path: Path, index: Any) -> None:
    faiss = load_faiss()
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # FAISS says with this, and with errno in the text, that the disk is full
        code = errno.ENOSPC if "No space left" in str(error) else errno.EIO
        raise OSError(code, f"FAISS could not write: {str(error)[-200:]}", str(path)) from error


def _read_back(path: Path, *, count: int, dim: int, spec: IndexSpec) -> None:
    index = read_faiss(path)
    if (index.ntotal, index.d) != (count, dim):
        raise IndexCorrupt(f"{path} holds {index.ntotal} x {index.d} after writing {count} x {dim}; build it again")
    set_search_parameters(index, spec.search)
