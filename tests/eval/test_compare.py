"""Comparing two evaluations."""

from __future__ import annotations

import numpy as np
import pytest

from ragkit.errors import InputError
from ragkit.eval.compare import compare_runs
from ragkit.eval.files import write_questions
from ragkit.types import Example


def evaluation(folder, scores, *, ids="abcde"):
    folder.mkdir()
    examples = [Example(question_id, "?", ("x",)) for question_id in ids]
    write_questions(folder, examples, {name: np.array(values, dtype=float) for name, values in scores.items()})
    return folder


def test_every_shared_metric_is_tested_question_by_question(tmp_path):
    """Differences 1, 1, 1, 0, 0: of the 8 sign patterns two are as far from 0, so p = 0.25."""
    a = evaluation(tmp_path / "a", {"hit@1": [1, 1, 1, 0, 1], "f1": [0] * 5})
    b = evaluation(tmp_path / "b", {"hit@1": [0, 0, 0, 0, 1], "mrr@5": [0] * 5})
    found = compare_runs(a, b, seed=0)
    assert list(found) == ["hit@1"]
    test = found["hit@1"]
    assert (test.a, test.b, test.n) == (0.8, 0.2, 5)
    assert test.difference == pytest.approx(0.6)
    assert test.p == 0.25


def test_questions_are_paired_by_id_and_not_by_line(tmp_path):
    """Files of two machines may differ in order: pairing by line gives differences between unrelated questions."""
    a = evaluation(tmp_path / "a", {"f1": [0.0, 0.1, 0.2, 0.3, 0.4]})
    b = evaluation(tmp_path / "b", {"f1": [0.4, 0.3, 0.2, 0.1, 0.0]}, ids="edcba")
    test = compare_runs(a, b, seed=0)["f1"]
    assert (test.difference, test.low, test.high, test.p) == (0, 0, 0, 1)


def test_a_metric_is_compared_where_it_applies_in_both(tmp_path):
    """A NaN in one run would make every figure of the metric NaN."""
    a = evaluation(tmp_path / "a", {"f1": [1, np.nan, 0, 1, 1], "mrr@5": [np.nan] * 5})
    b = evaluation(tmp_path / "b", {"f1": [0, 1, np.nan, 1, 1], "mrr@5": [1] * 5})
    found = compare_runs(a, b, seed=0)
    assert set(found) == {"f1"}
    assert (found["f1"].n, found["f1"].a) == (3, 1.0)


def test_other_questions_are_refused_by_name(tmp_path):
    """Comparing nq with squad, or dev with test, is a mistake that still gives a p."""
    a = evaluation(tmp_path / "a", {"f1": [1] * 5})
    b = evaluation(tmp_path / "b", {"f1": [1] * 5}, ids="abcdf")
    with pytest.raises(InputError, match=r"1 only in the first \['e'\], 1 only in the second \['f'\]"):
        compare_runs(a, b, seed=0)


def test_runs_that_share_no_metric_or_repeat_a_question_are_refused(tmp_path):
    """An empty table would look like no difference; a repeated id pairs two questions with one."""
    a = evaluation(tmp_path / "a", {"f1": [1] * 5})
    with pytest.raises(InputError, match="share no metric"):
        compare_runs(a, evaluation(tmp_path / "b", {"hit@1": [1] * 5}), seed=0)
    twice = evaluation(tmp_path / "c", {"f1": [1] * 5}, ids="abcdd")
    with pytest.raises(InputError, match=r"questions|more than once"):
        compare_runs(twice, twice, seed=0)
