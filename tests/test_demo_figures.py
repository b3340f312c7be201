"""The demo's figures against numbers worked by hand."""

from __future__ import annotations

import re

import numpy as np
from rich.console import Console

from ragkit.demo_figures import answer_scores, gains, hit_scores, score_table, semantic_marks
from ragkit.sample import questions_path
from ragkit.types import Example, Passage, Prediction, ScoredPassage


def test_the_scores_are_those_of_the_metrics_worked_by_hand() -> None:
    examples = [Example("1", "who?", ("Ada Lovelace",)), Example("2", "where?", ("Rome",))]
    hits = [ScoredPassage(Passage("a", "nobody"), 2.0), ScoredPassage(Passage("b", "It was Ada Lovelace."), 1.0)]
    hit = hit_scores([hits, []], examples)
    assert hit["hit@1"].tolist() == [0.0, 0.0]
    assert hit["hit@5"].tolist() == [1.0, 0.0]
    answers = answer_scores([Prediction("Ada", -1.0), Prediction("rome", -1.0)], examples)
    assert answers["EM"].tolist() == [0.0, 1.0]
    np.testing.assert_allclose(answers["F1"], [2 / 3, 1.0])


def test_the_table_keeps_questions_by_words_and_by_meaning_apart() -> None:
    """Swapped masks would praise the wrong retriever."""
    is_semantic = np.array([True, False, False, True])
    scores = {"BM25": {"hit@1": np.where(is_semantic, 0.0, 1.0)}}
    console = Console(width=100, record=True)
    with console.capture() as printed:
        console.print(score_table(scores, is_semantic, what="test", seed=0))
    lines = [line for line in printed.get().splitlines() if "BM25" in line or ":" in line]
    values = [re.findall(r"\d\.\d{3}", line) for line in lines if "BM25" in line]
    assert values == [["0.500"], ["1.000"], ["0.000"]]
    assert [kind for kind in ("all: 4", "by words: 2", "by meaning: 2") if any(kind in line for line in lines)] == [
        "all: 4",
        "by words: 2",
        "by meaning: 2",
    ]


def test_the_marks_are_in_the_order_of_the_questions() -> None:
    marks = semantic_marks(questions_path("test"))
    assert marks.dtype == bool
    assert 0 < marks.sum() < len(marks)


def test_the_notes_below_a_table_are_those_of_its_columns() -> None:
    """Without a reader in the table, a line about it would have a newcomer look for columns that are not there."""
    hits = {"BM25": {"hit@1": np.array([0.0, 1.0])}}
    answers = {"BM25": {**hits["BM25"], "EM": np.array([0.0, 1.0])}}
    found, read = (
        score_table(scores, np.array([True, False]), what="test", seed=0).caption for scores in (hits, answers)
    )
    assert "EM" not in str(found)
    assert "hit@k" in str(found)
    assert "EM" in str(read)


def test_a_gain_is_of_the_same_questions() -> None:
    """Two means with intervals of their own hide that most questions did not change: 1 of 4 was lost, 2 were won."""
    before = {"hit@1": np.array([1.0, 0.0, 0.0, 0.0])}
    after = {"hit@1": np.array([0.0, 1.0, 1.0, 0.0])}
    assert gains(before, after, seed=0).startswith("hit@1 0.250 -> 0.500 (+0.25, 95 % interval ")
    assert "(-0.25, 95 % interval " in gains(after, before, seed=0)
    assert "(+0.00, 95 % interval +0.00 to +0.00)" in gains(after, after, seed=0)
