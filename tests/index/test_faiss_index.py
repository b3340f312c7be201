"""Searching: what the caller did wrong is said, what is missing is -1 at the end, scores do not depend on the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ragkit.errors import IndexMismatch, InputError
from ragkit.index import IndexSpec, open_index, write_index

faiss = pytest.importorskip("faiss")


def test_more_hits_than_vectors_leaves_missing_ones_at_the_end(tmp_path: Path, vectors: np.ndarray) -> None:
    """Fault 19. Silent failure: FAISS's -3.4e38 padding is taken for a score."""
    for kind in ("flat", "ivf", "hnsw"):
        hits = write_index(vectors[:3], IndexSpec(kind), tmp_path / kind).search(vectors[:2], k=5)
        assert hits.rows.shape == (2, 5)
        assert (hits.rows[:, 3:] == -1).all()
        assert np.isneginf(hits.scores[:, 3:]).all()
        assert sorted(hits.rows[0, :3].tolist()) == [0, 1, 2]


def test_an_empty_index_and_an_empty_batch_give_empty_results(tmp_path: Path, vectors: np.ndarray) -> None:
    """Fault 19. Silent failure: a division by zero, or a file that cannot be mapped because it has no rows."""
    hits = write_index(vectors[:0], IndexSpec(), tmp_path / "empty").search(vectors[:2], k=3)
    assert hits.rows.tolist() == [[-1] * 3] * 2
    full = write_index(vectors, IndexSpec(), tmp_path / "full")
    assert full.search(vectors[:0], k=3).rows.shape == (0, 3)


def test_a_nan_query_is_refused_by_its_number(index_dir: Path, vectors: np.ndarray) -> None:
    """Silent failure: FAISS answers a NaN query with no hits, which counts as a retrieval failure of the model."""
    queries = vectors[:5].copy()
    queries[[1, 4], 0] = [np.nan, np.inf]
    with pytest.raises(InputError, match=r"query vectors \[1, 4\] of 5 are NaN or infinite"):
        open_index(index_dir).search(queries, k=2)


def test_queries_of_another_dimension_are_refused_with_both_numbers(index_dir: Path, vectors: np.ndarray) -> None:
    """Fault 7. FAISS raises a bare AssertionError."""
    with pytest.raises(IndexMismatch, match=r"queries have 8 dimensions, the index .* has 16"):
        open_index(index_dir).search(vectors[:2, :8], k=2)


def test_k_below_one_is_refused(index_dir: Path, vectors: np.ndarray) -> None:
    with pytest.raises(InputError, match="k is 0"):
        open_index(index_dir).search(vectors[:2], k=0)


def test_scores_and_rows_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    """Silent failure: FAISS sums by BLAS in a large batch and without it in a small one; the last bit, and so the
    order of near ties, changes with the number of questions asked together."""
    rng = np.random.default_rng(5)
    base = rng.standard_normal((300, 384)).astype(np.float32)
    vectors = np.concatenate([base, base * np.float32(1 + 1e-7), base])
    queries = rng.standard_normal((64, 384)).astype(np.float32)
    index = write_index(vectors, IndexSpec(), tmp_path / "index")
    together = index.search(queries, k=20)
    for number in range(0, 64, 9):
        alone = index.search(queries[number : number + 1], k=20)
        np.testing.assert_array_equal(alone.rows[0], together.rows[number])
        np.testing.assert_array_equal(alone.scores[0], together.scores[number])


def test_the_plain_search_of_faiss_does_depend_on_the_batch() -> None:
    """Control of the test above: were FAISS's own scores the same for every batch, scoring again would be waste."""
    rng = np.random.default_rng(5)
    index = faiss.IndexFlatIP(384)
    index.add(rng.standard_normal((300, 384)).astype(np.float32))
    queries = rng.standard_normal((400, 384)).astype(np.float32)
    together, alone = index.search(queries, 20)[0], index.search(queries[:1], 20)[0]
    assert (together[0] != alone[0]).any()


def test_a_zero_query_gets_the_first_rows_and_no_nan(tmp_path: Path, vectors: np.ndarray) -> None:
    """Fault 11."""
    index = write_index(vectors, IndexSpec(metric="cosine"), tmp_path / "index")
    hits = index.search(np.zeros((1, 16), np.float32), k=4)
    assert hits.rows.tolist() == [[0, 1, 2, 3]]
    assert hits.scores.tolist() == [[0.0] * 4]


def test_the_queries_of_the_caller_are_not_changed(tmp_path: Path, vectors: np.ndarray) -> None:
    """Silent failure: normalising in place, so that the second search of the same array differs."""
    index = write_index(vectors, IndexSpec(metric="cosine"), tmp_path / "index")
    queries = vectors[:3] * 7
    before = queries.copy()
    index.search(queries, k=2)
    np.testing.assert_array_equal(queries, before)


def test_the_index_says_what_it_is(index_dir: Path) -> None:
    index = open_index(index_dir)
    assert (len(index), index.dim, index.metric, index.generation) == (200, 16, "inner_product", 1)
    assert index.store_digest == "c" * 64
