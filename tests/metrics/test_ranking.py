"""Ranking metrics, by numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ragkit.errors import InputError
from ragkit.metrics import hit_at_k, ndcg_at_k, recall_at_k, reciprocal_rank

IS_GOLD = np.array(
    [
        [False, True, False, True],  # gold at ranks 2 and 4, of 3
        [True, False, False, False],  # at rank 1, of 1
        [False, False, False, False],  # none found, of 2
        [False, False, False, False],  # no gold at all
    ]
)
N_GOLD = np.array([3, 1, 2, 0])


def test_hit_at_k_looks_at_the_first_k_only():
    """An off-by-one in the cut turns hit@1 into hit@2."""
    assert hit_at_k(IS_GOLD, 1).tolist() == [0, 1, 0, 0]
    assert hit_at_k(IS_GOLD, 2).tolist() == [1, 1, 0, 0]
    assert hit_at_k(IS_GOLD, 100).tolist() == [1, 1, 0, 0]


def test_recall_divides_by_all_gold_passages_and_not_by_k():
    """Dividing by min(k, gold) is another metric under the same name."""
    np.testing.assert_allclose(recall_at_k(IS_GOLD, N_GOLD, 2), [1 / 3, 1, 0, np.nan])
    np.testing.assert_allclose(recall_at_k(IS_GOLD, N_GOLD, 4), [2 / 3, 1, 0, np.nan])


def test_reciprocal_rank_is_of_the_first_gold_passage():
    """argmax of a row without gold is 0: taken for a rank it would score 1.0."""
    np.testing.assert_allclose(reciprocal_rank(IS_GOLD), [1 / 2, 1, 0, 0])


def test_ndcg_discounts_by_log2_of_rank_plus_one():
    """Question 0: (1/log2 3 + 1/log2 5) / (1 + 1/log2 3 + 1/2); cut at 2: (1/log2 3) / (1 + 1/log2 3)."""
    second, fourth = 1 / math.log2(3), 1 / math.log2(5)
    np.testing.assert_allclose(ndcg_at_k(IS_GOLD, N_GOLD, 10), [(second + fourth) / (1.5 + second), 1, 0, np.nan])
    np.testing.assert_allclose(ndcg_at_k(IS_GOLD, N_GOLD, 2), [second / (1 + second), 1, 0, np.nan])


def test_a_ranking_without_hits_scores_zero():
    """A retriever that returns nothing has shape [query, 0]; argmax over no ranks raises."""
    nothing = np.zeros((2, 0), dtype=bool)
    gold = np.array([1, 2])
    assert hit_at_k(nothing, 5).tolist() == [0, 0]
    assert reciprocal_rank(nothing).tolist() == [0, 0]
    assert recall_at_k(nothing, gold, 5).tolist() == [0, 0]
    assert ndcg_at_k(nothing, gold, 5).tolist() == [0, 0]


def test_a_cut_below_one_is_refused():
    """A slice [:0] scores everything 0, and [:-1] silently means all but the last."""
    with pytest.raises(InputError, match="k is -1"):
        hit_at_k(IS_GOLD, -1)
