"""Our search against FAISS called directly: the same hits, the same scores up to rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ragkit.index import IndexSpec, open_index, write_index

faiss = pytest.importorskip("faiss")


@pytest.mark.parametrize(
    ("kind", "factory", "search"),
    [
        ("flat", "Flat", ""),
        ("ivf", "IVF16,Flat", "nprobe=4"),
        ("hnsw", "HNSW16,Flat", "efSearch=64"),
        ("SQfp16", "SQfp16", ""),
        ("IVF16,SQ8", "IVF16,SQ8", "nprobe=5"),
        ("PCA16,IVF8,Flat", "PCA16,IVF8,Flat", "nprobe=3"),
    ],
)
def test_our_hits_are_those_of_faiss(tmp_path: Path, kind: str, factory: str, search: str) -> None:
    """Silent failure: our file, our parameters or our order of hits change what FAISS finds."""
    rng = np.random.default_rng(0)
    vectors, queries = rng.standard_normal((2000, 32)).astype("f4"), rng.standard_normal((30, 32)).astype("f4")
    faiss.omp_set_num_threads(1)
    index = faiss.index_factory(32, factory, faiss.METRIC_INNER_PRODUCT)
    if kind == "hnsw":
        index.hnsw.efConstruction = 40
    index.train(vectors)
    index.add(vectors)
    if search:
        faiss.ParameterSpace().set_index_parameters(index, search)
    scores, rows = index.search(queries, 10)
    spec = IndexSpec(kind, nlist=16, links=16, ef_construction=40, search=search)
    ours = write_index(vectors, spec, tmp_path / "index").search(queries, 10)
    np.testing.assert_array_equal(ours.rows, rows)
    np.testing.assert_allclose(ours.scores, scores, rtol=1e-4, atol=1e-4)


def test_on_real_vectors_flat_agrees_with_faiss_and_hnsw_comes_close(data_dir: Path, tmp_path: Path) -> None:
    """Made-up vectors have no near ties and no clusters; these are MiniLM's of 10,000 real passages."""
    vectors = np.load(data_dir / "minilm" / "vectors.npy", mmap_mode="r")[:10_000].astype(np.float32)
    queries = vectors[::50] + np.float32(0.01)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    scores, rows = index.search(queries, 20)
    flat = write_index(vectors, IndexSpec(), tmp_path / "flat").search(queries, 20)
    apart = np.diff(scores, axis=1) < -1e-5  # where neighbours are not nearly tied the order must be the same
    clear = np.pad(apart, ((0, 0), (1, 0)), constant_values=True) & np.pad(apart, ((0, 0), (0, 1)))
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(flat.rows[clear], rows[clear])
    np.testing.assert_allclose(flat.scores, scores, rtol=1e-4, atol=1e-5)
    write_index(vectors, IndexSpec("hnsw", search="efSearch=64"), tmp_path / "hnsw")
    near, far = (open_index(tmp_path / "hnsw", search=f"efSearch={ef}").search(queries, 20) for ef in (200, 20))
    recall = [
        np.mean([len(set(a) & set(b)) / 20 for a, b in zip(hits.rows, rows, strict=True)]) for hits in (near, far)
    ]
    assert recall[0] > 0.97
    assert recall[0] >= recall[1]
