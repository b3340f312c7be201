"""Metrics of every question and their means."""

from __future__ import annotations

import numpy as np
import pytest

from ragkit.eval.relevance import Gold
from ragkit.eval.scores import answer_scores, cuts, gold_scores, hit_scores, intervals
from ragkit.types import Example, Prediction

EXAMPLES = [Example("a", "?", ("red fox",)), Example("b", "?", ("dog",)), Example("c", "?", ())]


def test_lists_are_cut_at_the_usual_ranks_up_to_k():
    """hit@100 of 20 hits would be hit@20 under another name."""
    assert cuts(100) == [1, 5, 20, 100]
    assert cuts(20) == [1, 5, 20]
    assert cuts(50) == [1, 5, 20, 50]
    assert cuts(1) == [1]


def test_a_question_without_answers_has_no_hit_value():
    """Counted as a miss it would lower hit@k for a reason that is not the retriever's."""
    found = {"hit": np.array([[False, True], [True, False], [False, False]])}
    scores = hit_scores(found, EXAMPLES, k=2)
    assert list(scores) == ["hit@1", "hit@2"]
    np.testing.assert_array_equal(scores["hit@1"], [0, 1, np.nan])
    np.testing.assert_array_equal(scores["hit@2"], [1, 1, np.nan])


def test_gold_metrics_leave_out_questions_without_gold_passages():
    """MRR of such a question is 0 by the formula, recall is 0/0: both are left out, as trec_eval does."""
    gold = Gold([("x", "y"), (), ("z",)], np.array([[False, True], [False, False], [False, False]]), 0)
    scores = gold_scores(gold, k=2)
    np.testing.assert_array_equal(scores["recall@2"], [0.5, np.nan, 0])
    np.testing.assert_array_equal(scores["hit_gold@2"], [1, np.nan, 0])
    np.testing.assert_array_equal(scores["mrr@2"], [0.5, np.nan, 0])
    assert np.isnan(scores["ndcg@2"]).tolist() == [False, True, False]


def test_answers_are_scored_question_by_question():
    """A shift by one question would still give numbers between 0 and 1."""
    predictions = [Prediction("the red fox", 1.0), Prediction("red dog", 1.0), Prediction("cat", 1.0)]
    scores = answer_scores(predictions, EXAMPLES, kind="text")
    np.testing.assert_array_equal(scores["exact_match"], [1, 0, np.nan])
    np.testing.assert_allclose(scores["f1"], [1, 2 / 3, np.nan])
    patterns = [Example("a", "?", ("red .*",))]
    assert answer_scores(predictions[:1], patterns, kind="regex")["exact_match_regex"].tolist() == [1]


def test_means_are_over_the_questions_a_metric_applies_to():
    """A NaN in the mean makes the mean NaN; a metric of no question has no mean."""
    scores = {"a": np.array([1.0, 0.0, np.nan]), "b": np.full(3, np.nan), "c": np.array([1.0, 0.0, 1.0])}
    found = intervals(scores, seed=0)
    assert set(found) == {"a", "c"}
    assert (found["a"].value, found["a"].n, found["c"].n) == (0.5, 2, 3)
    assert found["c"].value == pytest.approx(2 / 3)


def test_one_metric_more_changes_no_others_interval():
    """With one generator for all, the interval of f1 would depend on whether hit@k was asked for."""
    values = np.random.default_rng(0).random(40)
    alone = intervals({"b": values}, seed=3)["b"]
    assert intervals({"a": values[::-1].copy(), "b": values}, seed=3)["b"] == alone
    assert intervals({"b": values}, seed=4)["b"] != alone
