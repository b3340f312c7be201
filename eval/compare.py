"""Two evaluations of the same questions, metric by metric."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ragkit.errors import InputError
from ragkit.metrics import paired_test

from .files import read_scores


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric's means in A and B, the interval of A - B, and the paired permutation test's p, over n questions."""

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    n: int


def compare_runs(a: Path, b: Path, *, seed: int) -> dict[str, Comparison]:
    """Every metric that both evaluations have, over the questions to which it applies in both.

    InputError where the two are not of the same questions, or share no metric.
    """
    (ids_a, scores_a), (ids_b, scores_b) = read_scores(a), read_scores(b)
    _check_same_questions(a, b, ids_a=ids_a, ids_b=ids_b)
    place = {question_id: row for row, question_id in enumerate(ids_b)}
    order = [place[question_id] for question_id in ids_a]
    shared = [name for name in scores_a if name in scores_b]
    if not shared:
        raise InputError(f"{a} and {b} share no metric: {sorted(scores_a)} and {sorted(scores_b)}")
    pairs = {name: (np.array(scores_a[name]), np.array(scores_b[name])[order]) for name in shared}
    return {name: _compared(*pair, seed=seed) for name, pair in pairs.items() if _both(*pair).any()}


def _compared(a: np.ndarray, b: np.ndarray, *, seed: int) -> Comparison:
    both = _both(a, b)
    a, b = a[both], b[both]
    test = paired_test(a, b, generator=np.random.default_rng(seed))
    return Comparison(float(a.mean()), float(b.mean()), test.difference, test.low, test.high, test.p, test.n)


def _both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(~(np.isnan(a) | np.isnan(b)))


def _check_same_questions(a: Path, b: Path, *, ids_a: list[str], ids_b: list[str]) -> None:
    only_a, only_b = (sorted(set(x) - set(y)) for x, y in ((ids_a, ids_b), (ids_b, ids_a)))
    for path, ids in ((a, ids_a), (b, ids_b)):
        if len(set(ids)) < len(ids):
            raise InputError(f"{path} has {len(ids) - len(set(ids))} question ids more than once")
    if only_a or only_b:
        raise InputError(
            f"{a} and {b} are not of the same questions: {len(only_a)} only in the first {only_a[:3]}, "
            f"{len(only_b)} only in the second {only_b[:3]}; evaluate both on one data file"
        )
