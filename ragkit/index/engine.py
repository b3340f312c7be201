"""FAISS itself: importing it, reading its files safely, and the BLAS threshold around our searches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ragkit.errors import ConfigError, IndexCorrupt, MissingPackage

_BLAS_PER_THREAD = 800  # queries x dim of one call above which BLAS wins, per thread (FAISS pull request 5109)


def load_faiss() -> ModuleType:
    """The module ``faiss``; MissingPackage with the line to type where it is not installed."""
    try:
        import faiss  # noqa: PLC0415  an extra, and only what touches vectors needs it
    except ImportError as error:
        raise MissingPackage(
            "faiss is not installed, and a dense index needs it; install one of the two, never both: "
            'pip install "ragkit[cpu]"   or   pip install "ragkit[gpu]"'
        ) from error
    return faiss


class _BlasThreshold:
    """FAISS's process-wide threshold, ours while any thread is inside, the program's own when the last one leaves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 0

    @contextmanager
    def lowered(self) -> Iterator[None]:
        faiss = load_faiss()
        with self._lock:
            if self._inside == 0:
                self._before = faiss.cvar.distance_compute_blas_threshold
                faiss.cvar.distance_compute_blas_threshold = _BLAS_PER_THREAD * faiss.omp_get_max_threads()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    faiss.cvar.distance_compute_blas_threshold = self._before


blas_threshold = _BlasThreshold()


def read_faiss(path: Path) -> Any:
    """The FAISS index in ``path``, memory-mapped where its kind allows; IndexCorrupt where FAISS cannot read it.

    No header can make FAISS allocate more than the file holds.
    """
    faiss = load_faiss()
    if not path.is_file():
        raise IndexCorrupt(f"{path} is missing; restore it or build the index again: ragkit index overwrite=true ...")
    limit = faiss.get_deserialization_vector_byte_limit()
    faiss.set_deserialization_vector_byte_limit(path.stat().st_size)
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, MemoryError) as error:
        raise IndexCorrupt(
            f"FAISS cannot read {path} ({path.stat().st_size} bytes): it is truncated, altered or no FAISS index; "
            f"restore it or build the index again: ragkit index overwrite=true ...\n  FAISS says: {_reason(error)}"
        ) from error
    finally:
        faiss.set_deserialization_vector_byte_limit(limit)


def set_search_parameters(index: Any, parameters: str) -> None:
    """Set ``nprobe=64``, ``efSearch=128`` and the like; ConfigError where the kind of index has no such parameter."""
    if not parameters:
        return
    faiss = load_faiss()
    try:
        faiss.ParameterSpace().set_index_parameters(index, parameters)
    except RuntimeError as error:
        raise ConfigError(
            f"search={parameters!r} does not fit an index of type {type(index).__name__}: {_reason(error)}"
        ) from error


def _reason(error: BaseException) -> str:
    """The last clause of FAISS's message, without the C++ signature before it."""
    return str(error).rsplit("Error: ", maxsplit=1)[-1].rsplit(": could", maxsplit=1)[-1].strip()
