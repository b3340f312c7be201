"""Fusion of rankings, by numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ragkit.errors import ConfigError, IndexMismatch, InputError
from ragkit.retriever.fusion import Fusion, reciprocal_ranks, scaled_scores
from ragkit.retriever.protocol import Retriever
from ragkit.types import SearchResult


class Fixed:
    """A retriever with given hits for every query, padded or cut to k."""

    def __init__(self, rows, scores=None, digest="corpus"):
        self.rows, self.corpus_digest, self.asked = rows, digest, []
        self.scores = scores or [1.0 / (rank + 1) for rank in range(len(rows))]

    def search(self, queries, *, k):
        self.asked.append(k)
        rows, scores = np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf, dtype=np.float32)
        n = min(k, len(self.rows))
        rows[:, :n], scores[:, :n] = self.rows[:n], self.scores[:n]
        return SearchResult(rows, scores)


def test_reciprocal_ranks_sum_over_the_retrievers():
    """Row 7 is 1st and 3rd: 1/61 + 1/63; row 5 is 2nd and 1st: 1/62 + 1/61; row 9 is 2nd of one: 1/62."""
    hits = Fusion([Fixed([7, 5]), Fixed([5, 9, 7])]).search(["q"], k=4)
    assert hits.rows.tolist() == [[5, 7, 9, -1]]
    np.testing.assert_allclose(hits.scores[0, :3], [1 / 62 + 1 / 61, 1 / 61 + 1 / 63, 1 / 62], rtol=1e-6)
    assert hits.scores[0, 3] == -np.inf


def test_the_constant_changes_who_wins():
    """A constant that is not passed on stays 60: with 0 one first place (1) beats two third places (2/3)."""
    retrievers = [Fixed([1, 2, 3]), Fixed([4, 5, 3])]
    assert Fusion(retrievers).search(["q"], k=1).rows.tolist() == [[3]]
    assert Fusion(retrievers, constant=0.0).search(["q"], k=3).rows.tolist() == [[1, 4, 3]]


def test_weighted_scores_are_scaled_per_query_and_retriever():
    """Scores 10, 4, 2 become 1, 0.25, 0; cosines 0.9, 0.5 become 1, 0. Unscaled, BM25's would drown the cosines."""
    retrievers = [Fixed([1, 2, 3], [10, 4, 2]), Fixed([2, 9], [0.9, 0.5])]
    hits = Fusion(retrievers, method="weighted", weights=[1.0, 2.0]).search(["q"], k=5)
    assert hits.rows.tolist() == [[2, 1, 3, 9, -1]]
    np.testing.assert_allclose(hits.scores[0, :4], [2.25, 1, 0, 0])
    only_first = Fusion(retrievers, method="weighted", weights=[1.0, 0.0]).search(["q"], k=1)
    assert only_first.rows.tolist() == [[1]]


def test_missing_hits_get_no_share():
    """-inf in a scale makes NaN, and rank 2 of a line that found one hit is no hit."""
    hits = SearchResult(np.array([[3, -1], [-1, -1]]), np.array([[5.0, -np.inf], [-np.inf] * 2], dtype=np.float32))
    assert reciprocal_ranks(hits).tolist() == [[1 / 61, 0], [0, 0]]
    assert scaled_scores(hits).tolist() == [[1, 0], [0, 0]]
    for method in ("rrf", "weighted"):
        assert Fusion([Fixed([]), Fixed([])], method=method).search(["q"], k=2).rows.tolist() == [[-1, -1]]


def test_equal_scores_scale_to_one_and_negative_scores_keep_their_order():
    """A spread of 0 divides by zero; inner products may be negative."""
    same = SearchResult(np.array([[1, 2]]), np.array([[0.5, 0.5]], dtype=np.float32))
    assert scaled_scores(same).tolist() == [[1, 1]]
    negative = SearchResult(np.array([[1, 2, 3]]), np.array([[-1.0, -2.0, -5.0]], dtype=np.float32))
    assert scaled_scores(negative).tolist() == [[1, 0.75, 0]]


def test_the_order_of_the_retrievers_and_of_ties_does_not_matter():
    """Two machines that list the same indexes in another order must give the same ranking; ties go by row."""
    a, b = Fixed([8, 2]), Fixed([2, 8])
    first, second = Fusion([a, b]).search(["q"], k=2), Fusion([b, a]).search(["q"], k=2)
    assert first.rows.tolist() == second.rows.tolist() == [[2, 8]]
    assert first.scores.tolist() == second.scores.tolist()


def test_a_small_k_gives_the_beginning_of_a_large_one():
    """Asked for k hits only, each retriever would hide the passages that both rank just below k."""
    retrievers = [Fixed(list(range(50))), Fixed(list(range(49, -1, -1)))]
    fusion = Fusion(retrievers)
    assert fusion.search(["q"], k=3).rows.tolist() == fusion.search(["q"], k=30).rows[:, :3].tolist()
    fusion.search(["q"], k=500)
    assert retrievers[0].asked == [100, 100, 500]


def test_one_retriever_alone_keeps_its_order():
    """The control: fusion adds nothing where there is nothing to fuse."""
    for method in ("rrf", "weighted"):
        fusion = Fusion([Fixed([4, 1, 3])], method=method)
        assert fusion.search(["q", "r"], k=2).rows.tolist() == [[4, 1], [4, 1]]
        assert isinstance(fusion, Retriever)
        assert fusion.corpus_digest == "corpus"


def test_retrievers_of_different_corpora_are_refused():
    """Row 5 of one is another passage than row 5 of the other: the sums would be of unrelated passages."""
    with pytest.raises(IndexMismatch, match="different corpora"):
        Fusion([Fixed([1]), Fixed([1], digest="other")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "sum"}, "choose from .*rrf"),
        ({"weights": [1.0]}, "1 weights for 2 retrievers"),
        ({"weights": [1.0, -1.0]}, "0 or more"),
        ({"weights": [0.0, 0.0]}, "above 0"),
        ({"weights": [1.0, float("nan")]}, "0 or more"),
        ({"constant": -1.0}, "above -1"),
    ],
)
def test_a_wrong_option_is_refused(arguments, message):
    """A weight too few would leave a retriever out; a constant of -1 divides by zero at rank 1."""
    with pytest.raises(ConfigError, match=message):
        Fusion([Fixed([1]), Fixed([2])], **arguments)


def test_no_retriever_and_no_k_are_refused():
    """An empty sum, and a cut at 0, would return an empty ranking."""
    with pytest.raises(ConfigError, match="at least one retriever"):
        Fusion([])
    with pytest.raises(InputError, match="k is 0"):
        Fusion([Fixed([1])]).search(["q"], k=0)
