"""How sure a mean over questions is: bootstrap intervals, and the test of one run against another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from ragkit.errors import InputError

_CELLS = 4_000_000  # random numbers held at once


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over ``n`` questions and the bounds of its interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Mean difference ``a - b`` over ``n`` shared questions, its bootstrap interval, and the permutation test's p."""

    difference: float
    low: float
    high: float
    p: float
    n: int


def bootstrap_interval(
    values: Float[np.ndarray, " question"],
    *,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """The mean and its percentile bootstrap interval: the middle ``level`` of the means of resampled questions.

    Questions are drawn with replacement (Efron and Tibshirani 1993, chapter 13). NaN or no values: InputError.
    """
    _check(values)
    if not 0 < level < 1:
        raise InputError(f"level is {level}; an interval's level lies between 0 and 1, e.g. 0.95")
    n = len(values)

    def means(count: int) -> Float64[np.ndarray, " resample"]:
        drawn = values[generator.integers(n, size=(count, n))]
        return np.asarray(drawn.mean(axis=1), dtype=np.float64)

    low, high = np.quantile(_in_blocks(means, resamples, n), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean(dtype=np.float64)), float(low), float(high), n)


def paired_test(
    a: Float[np.ndarray, " a"],
    b: Float[np.ndarray, " b"],
    *,
    generator: np.random.Generator,
    resamples: int = 10_000,
) -> PairedTest:
    """The two-sided paired permutation test of the mean of ``a`` against that of ``b``, question by question.

    If the runs were alike, each difference could as well have the other sign: p is the share of sign patterns
    whose mean difference is at least as far from 0 as the one seen. All patterns are counted where they are no more
    than ``resamples``; else that many are drawn and p = (1 + as far) / (1 + drawn), so it is never 0
    (Phipson and Smyth 2010). The interval of the difference is :func:`bootstrap_interval`'s.
    """
    if a.shape != b.shape:
        raise InputError(f"the runs have {len(a)} and {len(b)} questions; a paired test needs the same ones in order")
    difference = a.astype(np.float64) - b.astype(np.float64)
    interval = bootstrap_interval(difference, generator=generator)
    p = _sign_flip_p(difference[difference != 0], generator=generator, resamples=resamples)
    return PairedTest(interval.value, interval.low, interval.high, p, len(difference))


def _sign_flip_p(
    difference: Float64[np.ndarray, " question"], *, generator: np.random.Generator, resamples: int
) -> float:
    n = len(difference)
    seen = abs(difference.sum()) * (1 - 1e-12)  # sums of the same numbers in another order differ in the last digit
    if 2**n <= resamples:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float((np.abs((2 * bits - 1) @ difference) >= seen).mean())

    def sums(count: int) -> Float64[np.ndarray, " resample"]:
        # a random sum of signs: twice the sum of the differences whose sign stays, less the sum of all
        keeps = generator.integers(2, size=(count, n), dtype=np.int8)
        return np.asarray(2 * (keeps @ difference) - difference.sum())

    as_far = int((np.abs(_in_blocks(sums, resamples, n)) >= seen).sum())
    return (1 + as_far) / (1 + resamples)


def _in_blocks(
    draw: Callable[[int], Float64[np.ndarray, " resample"]], resamples: int, n: int
) -> Float64[np.ndarray, " all"]:
    block = max(1, _CELLS // n)
    return np.concatenate([draw(min(block, resamples - start)) for start in range(0, resamples, block)])


def _check(values: Float[np.ndarray, " question"]) -> None:
    if not len(values):
        raise InputError("no values: an interval needs at least one question")
    if np.isnan(values).any():
        raise InputError("some values are NaN (a question without gold passages?); leave those questions out")
