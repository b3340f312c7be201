"""What is said of the questions and gold passages."""

from __future__ import annotations

import numpy as np
import pytest

from ragkit.errors import InputError
from ragkit.eval.notes import checked_examples, gold_notes
from ragkit.eval.relevance import Gold
from ragkit.types import Example


def test_a_repeated_id_gets_a_number():
    """Two questions under one id overwrite each other in a TREC run, and pair wrongly in a comparison."""
    examples = [Example(i, q, ("x",)) for i, q in (("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"))]
    distinct, notes = checked_examples(examples)
    assert [(e.id, e.question) for e in distinct] == [("a", "1"), ("b", "2"), ("a-2", "3"), ("a-3", "4")]
    assert "repeat an id: 2" in notes[0]


def test_questions_without_answers_are_counted():
    """A silent exclusion changes what n means."""
    _, notes = checked_examples([Example("a", "?", ()), Example("b", "?", ("x",))])
    assert notes == ["questions without answers: 1; left out of the metrics that need them"]
    assert checked_examples([Example("b", "?", ("x",))])[1] == []


def test_no_questions_are_refused():
    """The mean of nothing is NaN, with a warning at best."""
    with pytest.raises(InputError, match="no questions"):
        checked_examples([])


def test_gold_passages_outside_the_corpus_are_told_of():
    """A recall of 0.5 because half of the gold passages were never indexed is not the retriever's."""
    found = np.zeros((2, 1), dtype=bool)
    assert gold_notes(Gold([(), ()], found, 0)) == []
    assert "none of the 2" in gold_notes(Gold([("x",), ("y",)], found, 2))[0]
    notes = gold_notes(Gold([("x", "y"), ()], found, 1))
    assert "not in the corpus: 1 of 2" in notes[0]
    assert "questions without gold passages: 1" in notes[1]
