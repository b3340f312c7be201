"""Properties of the metrics on random texts and rankings."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.metrics import (
    bootstrap_interval,
    exact_match,
    f1,
    has_answer,
    hit_at_k,
    ndcg_at_k,
    normalize_answer,
    paired_test,
    recall_at_k,
    reciprocal_rank,
)

letters = st.text(alphabet="aAäÄbB éñ東京 .-'\"\u200b\u0301\n1 ", max_size=20)
texts = st.one_of(letters, st.text(max_size=20))
rankings = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=5)


def tokens(text):
    """DPR's tokens, written down a second time: character by character instead of by one pattern."""
    found, word = [], ""
    for sign in unicodedata.normalize("NFD", text):
        kind = unicodedata.category(sign)[0]
        if kind in "LNM":
            word += sign
            continue
        found += [word] if word else []
        word = ""
        found += [sign] if kind not in "ZC" else []
    return [token.lower() for token in found + ([word] if word else [])]


@settings(max_examples=400, deadline=None)
@given(texts, texts)
def test_token_match_is_the_sublist_rule(text, answer):
    """The matcher compares joined lines for speed; the definition compares lists of tokens."""
    if regex.search(r"[\p{Cn}]", text + answer):  # signs that Python's and regex's tables may know differently
        return
    passage, wanted = tokens(text), tokens(answer)
    starts = range(len(passage) - len(wanted) + 1)
    expected = bool(wanted) and any(passage[start : start + len(wanted)] == wanted for start in starts)
    assert has_answer(text, [answer]) is expected


@settings(deadline=None)
@given(texts, texts)
def test_the_answer_inside_a_passage_is_found(before, answer):
    """An answer set off by spaces is there, whatever its script; the control is that another word is not."""
    if tokens(answer):
        assert has_answer(f"{before} {answer} after", [answer])
    assert not has_answer(before, [f"{before} and more"])


@settings(deadline=None)
@given(texts)
def test_normalising_twice_changes_nothing_but_articles(text):
    """The step that leaves a new article ("a.n" -> "an") is the only one that a second pass may take further."""
    once = normalize_answer(text)
    assert normalize_answer(once).split() == [word for word in once.split() if not re.fullmatch("a|an|the", word)]


@settings(deadline=None)
@given(texts, st.lists(texts, max_size=4))
def test_answer_scores_lie_in_their_range_and_agree_at_the_top(prediction, answers):
    """EM 1 with an overlapping word means F1 1, and the order of the answers does not matter."""
    em, overlap = exact_match(prediction, answers), f1(prediction, answers)
    assert em in {0.0, 1.0}
    assert 0 <= overlap <= 1
    assert (em, overlap) == (exact_match(prediction, answers[::-1]), f1(prediction, answers[::-1]))
    if em and normalize_answer(prediction):
        assert overlap == 1


@settings(deadline=None)
@given(rankings, st.integers(1, 8))
def test_ranking_metrics_grow_with_k_and_agree_on_one_gold_passage(relevant, k):
    """hit@k and recall@k can only grow with k; with one gold passage that is found, recall is hit and nDCG >= MRR."""
    matrix = np.array(relevant)
    n_gold = np.maximum(matrix.sum(axis=1), 1)
    for metric in (hit_at_k, lambda m, cut: recall_at_k(m, n_gold, cut)):
        assert (metric(matrix, k + 1) >= metric(matrix, k)).all()
    scores = ndcg_at_k(matrix, n_gold, k)
    assert ((scores >= 0) & (scores <= 1 + 1e-12)).all()
    first_only = matrix & (matrix.cumsum(axis=1) == 1)
    one = np.ones(len(matrix), dtype=int)
    np.testing.assert_array_equal(recall_at_k(first_only, one, k), hit_at_k(matrix, k))
    assert (ndcg_at_k(first_only, one, 6) >= reciprocal_rank(first_only) - 1e-12).all()
    assert (reciprocal_rank(matrix) == reciprocal_rank(first_only)).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(0, 5))
def test_an_interval_lies_within_the_values_and_p_within_its_range(values, seed):
    """An interval outside the values' range, or p outside [0, 1], is no interval and no p."""
    array = np.array(values)
    interval = bootstrap_interval(array, generator=np.random.default_rng(seed), resamples=200)
    assert array.min() - 1e-12 <= interval.low <= interval.high <= array.max() + 1e-12
    test = paired_test(array, array[::-1].copy(), generator=np.random.default_rng(seed), resamples=200)
    assert 0 < test.p <= 1
