"""Bootstrap intervals and paired tests, by numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ragkit.errors import InputError
from ragkit.metrics import bootstrap_interval, paired_test
from ragkit.metrics import intervals as module


def rng(seed=0):
    return np.random.default_rng(seed)


def test_the_interval_of_one_question_repeated_is_that_value():
    """Every resample of equal values has their mean: any width would be a defect."""
    interval = bootstrap_interval(np.full(7, 0.25), generator=rng())
    assert (interval.value, interval.low, interval.high, interval.n) == (0.25, 0.25, 0.25, 7)


def test_the_interval_of_a_share_is_as_wide_as_the_binomial_says():
    """200 of 400: the normal interval is 0.5 +- 1.96 * sqrt(0.25 / 400) = 0.5 +- 0.049."""
    values = np.repeat([0.0, 1.0], 200)
    interval = bootstrap_interval(values, generator=rng(), resamples=5000)
    assert interval.value == 0.5
    assert interval.low == pytest.approx(0.451, abs=0.006)
    assert interval.high == pytest.approx(0.549, abs=0.006)
    narrower = bootstrap_interval(values, generator=rng(), resamples=5000, level=0.68)
    assert narrower.high - narrower.low == pytest.approx(0.05, abs=0.006)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    """An interval that changes from run to run cannot be quoted; one that ignores its generator is not random."""
    values = rng(3).random(50)
    first = bootstrap_interval(values, generator=rng(1))
    assert first == bootstrap_interval(values, generator=rng(1))
    assert first != bootstrap_interval(values, generator=rng(2))


def test_drawing_in_blocks_changes_nothing(monkeypatch):
    """The blocks bound memory: a block boundary that dropped or repeated draws would shift the interval."""
    values = rng(3).random(50)
    whole = bootstrap_interval(values, generator=rng(1), resamples=101)
    monkeypatch.setattr(module, "_CELLS", 350)
    assert bootstrap_interval(values, generator=rng(1), resamples=101) == whole


def test_no_values_and_nan_are_refused():
    """A NaN would make the mean NaN, and a mean of nothing warns and gives NaN."""
    with pytest.raises(InputError, match="no values"):
        bootstrap_interval(np.array([]), generator=rng())
    with pytest.raises(InputError, match="NaN"):
        bootstrap_interval(np.array([1.0, np.nan]), generator=rng())


def test_a_paired_test_counts_all_sign_patterns_of_few_questions():
    """Differences 1, 1, 1 and 0: of 8 patterns two (+++ and ---) are as far from 0 as +3, so p = 2/8."""
    test = paired_test(np.array([1.0, 1, 1, 0]), np.array([0.0, 0, 0, 0]), generator=rng())
    assert test.difference == 0.75
    assert test.p == 0.25
    assert test.n == 4
    # differences 1, 1, -1: patterns with |sum| >= 1 are all 8
    assert paired_test(np.array([1.0, 1, 0]), np.array([0.0, 0, 1]), generator=rng()).p == 1.0


def test_equal_runs_have_p_one_and_no_width():
    """A run compared with itself must never look different."""
    a = rng().random(30)
    test = paired_test(a, a.copy(), generator=rng())
    assert (test.difference, test.low, test.high, test.p) == (0.0, 0.0, 0.0, 1.0)


def test_the_drawn_patterns_agree_with_the_exact_binomial():
    """40 of 60 differing questions in favour: the two-sided sign test gives p = 0.0135."""
    a = np.repeat([1.0, 0.0, 1.0], [40, 20, 100])
    b = np.repeat([0.0, 1.0, 1.0], [40, 20, 100])
    test = paired_test(a, b, generator=rng(), resamples=40_000)
    assert test.p == pytest.approx(0.0135, abs=0.002)
    assert test.difference == pytest.approx(20 / 160)
    assert test.low > 0
    swapped = paired_test(b, a, generator=rng(), resamples=40_000)
    assert swapped.difference == pytest.approx(-20 / 160)
    assert swapped.p == pytest.approx(test.p, abs=0.002)


def test_p_of_drawn_patterns_is_never_zero():
    """p = 0 claims certainty that no sample can give."""
    assert paired_test(np.ones(200), np.zeros(200), generator=rng(), resamples=99).p == pytest.approx(0.01)


def test_runs_of_different_length_are_refused():
    """Broadcasting would pair a question with all others."""
    with pytest.raises(InputError, match="3 and 2 questions"):
        paired_test(np.ones(3), np.ones(2), generator=rng())
