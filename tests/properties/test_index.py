"""Property 4: flat is brute force; IVF that looks into every list is flat; what is saved is what is loaded."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.errors import IndexMismatch
from ragkit.index import IndexSpec, open_index, write_index
from ragkit.types import SearchResult


def brute_force(vectors: np.ndarray, queries: np.ndarray, k: int) -> SearchResult:
    scores = (queries.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    rows = np.lexsort((np.broadcast_to(np.arange(len(vectors)), scores.shape), -scores), axis=-1)[:, :k]
    return SearchResult(rows, np.take_along_axis(scores, rows, axis=-1))


def small_integers(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Vectors of few small integers: sums are exact, so equal scores are equal to the last bit, and there are many."""
    return np.random.default_rng(seed).integers(-2, 3, size=shape).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 300),
    dim=st.integers(1, 20),
    n_queries=st.integers(1, 40),
    k=st.integers(1, 60),
    seed=st.integers(0, 1000),
)
def test_flat_search_is_brute_force_with_ties_by_row(count: int, dim: int, n_queries: int, k: int, seed: int) -> None:
    """Silent failure: FAISS keeps whichever of several tied vectors it met first, so two batch sizes disagree."""
    vectors, queries = small_integers((count, dim), seed), small_integers((n_queries, dim), seed + 1)
    with tempfile.TemporaryDirectory() as folder:
        found = write_index(vectors, IndexSpec(), Path(folder) / "index").search(queries, k)
    wanted = brute_force(vectors, queries, k)
    assert found.rows.shape == (n_queries, k)
    np.testing.assert_array_equal(found.rows[:, :count], wanted.rows)
    np.testing.assert_array_equal(found.scores[:, :count], wanted.scores)
    assert (found.rows[:, count:] == -1).all()
    assert np.isneginf(found.scores[:, count:]).all()


def test_a_tie_with_hundreds_of_vectors_still_gives_the_lowest_rows(tmp_path: Path) -> None:
    """Silent failure: the k-th place of a long tie goes to an arbitrary row because only k + a few were fetched."""
    vectors = np.tile(small_integers((1, 16), 3), (2000, 1))
    vectors[1000] *= 2
    index = write_index(vectors, IndexSpec(), tmp_path / "index")
    for n_queries in (1, 64):
        rows = index.search(np.tile(vectors[:1], (n_queries, 1)), k=7).rows
        assert rows.tolist() == [[1000, 0, 1, 2, 3, 4, 5]] * n_queries


@settings(max_examples=15, deadline=None)
@given(nlist=st.integers(1, 12), metric=st.sampled_from(["inner_product", "cosine"]), seed=st.integers(0, 1000))
def test_ivf_that_probes_every_list_is_flat(nlist: int, metric: str, seed: int) -> None:
    """Silent failure: an L2 coarse quantizer or an L2 index under inner-product vectors returns other neighbours."""
    rng = np.random.default_rng(seed)
    vectors = (rng.standard_normal((300, 12)) * rng.uniform(0.2, 5, (300, 1))).astype(np.float32)
    queries = rng.standard_normal((9, 12)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        flat = write_index(vectors, IndexSpec(metric=metric), Path(folder) / "flat").search(queries, 10)
        spec = IndexSpec("ivf", metric=metric, nlist=nlist, search=f"nprobe={nlist}")
        ivf = write_index(vectors, spec, Path(folder) / "ivf").search(queries, 10)
    np.testing.assert_array_equal(ivf.rows, flat.rows)
    np.testing.assert_allclose(ivf.scores, flat.scores, rtol=1e-5, atol=1e-5)


def test_ivf_that_probes_one_of_many_lists_misses_some(tmp_path: Path) -> None:
    """Control of the property above: the number of lists probed must reach FAISS at all."""
    rng = np.random.default_rng(0)
    vectors, queries = rng.standard_normal((2000, 12)).astype(np.float32), rng.standard_normal((50, 12)).astype("f4")
    write_index(vectors, IndexSpec("ivf", nlist=40, search="nprobe=1"), tmp_path / "ivf")
    flat = write_index(vectors, IndexSpec(), tmp_path / "flat").search(queries, 10)
    one = open_index(tmp_path / "ivf").search(queries, 10)
    every = open_index(tmp_path / "ivf", search="nprobe=40").search(queries, 10)
    assert (every.rows == flat.rows).all()
    assert np.mean([len(set(a) & set(b)) for a, b in zip(one.rows, flat.rows, strict=True)]) < 9


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "SQfp16", "IVF4,SQ8"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_index_opened_again_gives_the_identical_hits(tmp_path: Path, kind: str, dtype: str) -> None:
    """Silent failure: search parameters or the metric are lost between writing and opening."""
    rng = np.random.default_rng(1)
    vectors, queries = rng.standard_normal((400, 16)).astype(np.float32), rng.standard_normal((20, 16)).astype("f4")
    first = write_index(vectors, IndexSpec(kind, dtype=dtype), tmp_path / "index").search(queries, 10)
    second = open_index(tmp_path / "index", verify="full").search(queries, 10)
    np.testing.assert_array_equal(first.rows, second.rows)
    np.testing.assert_array_equal(first.scores, second.scores)


def test_inner_product_and_cosine_differ_where_lengths_vary_and_a_wrong_metric_is_refused(tmp_path: Path) -> None:
    """Silent failure: an index is searched by another metric than its encoder was trained for."""
    rng = np.random.default_rng(2)
    vectors = (rng.standard_normal((500, 8)) * rng.uniform(0.1, 10, (500, 1))).astype(np.float32)
    queries = rng.standard_normal((20, 8)).astype(np.float32)
    product = write_index(vectors, IndexSpec(), tmp_path / "product")
    cosine = write_index(vectors, IndexSpec(metric="cosine"), tmp_path / "cosine")
    assert (product.search(queries, 5).rows != cosine.search(queries, 5).rows).mean() > 0.3
    assert np.abs(cosine.search(queries, 5).scores).max() <= 1.0
    assert (product.metric, cosine.metric) == ("inner_product", "cosine")
    with pytest.raises(IndexMismatch, match=r"metric cosine.*needs inner_product.*ragkit index"):
        cosine.manifest.require(tmp_path, metric="inner_product")
