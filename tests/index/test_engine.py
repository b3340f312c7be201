"""FAISS is read behind limits, and its process-wide threshold is ours only while we search."""

from __future__ import annotations

import struct
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from ragkit.errors import ConfigError, IndexCorrupt, MissingPackage
from ragkit.index import engine

faiss = pytest.importorskip("faiss")


def test_the_threshold_is_lowered_inside_and_restored_outside_whatever_happens() -> None:
    """Silent failure: ragkit changes FAISS for the whole program, or leaves it changed after an error."""
    before = faiss.cvar.distance_compute_blas_threshold

    def search_and_fail() -> None:
        with engine.blas_threshold.lowered():
            assert faiss.cvar.distance_compute_blas_threshold == 800 * faiss.omp_get_max_threads() != before
            raise KeyError

    with pytest.raises(KeyError):
        search_and_fail()
    assert faiss.cvar.distance_compute_blas_threshold == before


def test_the_threshold_is_restored_after_two_threads_that_overlap() -> None:
    """Silent failure: the second thread saves our value as the program's and restores that."""
    before = faiss.cvar.distance_compute_blas_threshold
    first_in, second_in = threading.Event(), threading.Event()

    def first() -> None:
        with engine.blas_threshold.lowered():
            first_in.set()
            second_in.wait(10)

    def second() -> None:
        first_in.wait(10)
        with engine.blas_threshold.lowered():
            second_in.set()
            threads[0].join(10)
            assert faiss.cvar.distance_compute_blas_threshold != before

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert faiss.cvar.distance_compute_blas_threshold == before


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat", "HNSW8,Flat", "SQfp16", "PCA8,IVF2,SQ8", "IVF4,Flat,RFlat"])
def test_every_kind_of_index_passes_the_limit_of_its_own_size(
    tmp_path: Path, vectors: np.ndarray, factory: str
) -> None:
    """Control of the limit below: it must not refuse a healthy file."""
    index = faiss.index_factory(16, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    limit = faiss.get_deserialization_vector_byte_limit()
    found = engine.read_faiss(tmp_path / "index.faiss")
    assert found.ntotal == 200
    assert faiss.get_deserialization_vector_byte_limit() == limit
    np.testing.assert_array_equal(found.search(vectors[:5], 3)[1], index.search(vectors[:5], 3)[1])


@pytest.mark.parametrize("factory", ["Flat", "HNSW8,Flat"])
def test_a_header_that_asks_for_a_petabyte_is_refused_without_allocating(
    tmp_path: Path, vectors: np.ndarray, factory: str
) -> None:
    """Fault 22. Silent failure: FAISS allocates whatever the first bytes of the file say."""
    path = tmp_path / "index.faiss"
    index = faiss.index_factory(16, factory, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    faiss.write_index(index, str(path))
    raw = bytearray(path.read_bytes())
    raw[37:45] = struct.pack("<Q", 1 << 48)
    path.write_bytes(raw)
    with pytest.raises(IndexCorrupt, match=r"FAISS cannot read.*truncated, altered.*ragkit index"):
        engine.read_faiss(path)


@pytest.mark.parametrize("size", [0, 3, 44, 1000])
def test_a_file_cut_anywhere_is_refused_and_named(tmp_path: Path, vectors: np.ndarray, size: int) -> None:
    """Fault 5."""
    path = tmp_path / "index.faiss"
    index = faiss.IndexFlatIP(16)
    index.add(vectors)
    faiss.write_index(index, str(path))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(IndexCorrupt, match=rf"{path} \({size} bytes\)"):
        engine.read_faiss(path)


def test_a_search_parameter_that_the_kind_lacks_is_named() -> None:
    """Silent failure: nprobe on a graph changes nothing and nobody is told."""
    with pytest.raises(ConfigError, match=r"search='nprobe=4' does not fit an index of type IndexFlatIP.*nprobe"):
        engine.set_search_parameters(faiss.IndexFlatIP(4), "nprobe=4")


def test_without_faiss_the_error_gives_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingPackage, match=r'pip install "ragkit\[cpu\]"'):
        engine.load_faiss()
