"""Exact match and F1, by numbers worked by hand."""

from __future__ import annotations

import pytest

from ragkit.errors import InputError
from ragkit.metrics import exact_match, f1, normalize_answer, regex_exact_match


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Cat", "cat"),
        ("a an the", ""),
        ("Athens", "athens"),  # no article inside a word
        ("U.S.A.", "usa"),
        ("rock'n'roll", "rocknroll"),
        ("the-a-an", "theaan"),  # punctuation goes before the articles do, so the three make one word
        ("  two \t\n words ", "two words"),
        ("Café – Nº 5", "café – nº 5"),  # accents and signs beyond ASCII stay
        ("東京、日本", "東京、日本"),
        ("!?.", ""),
        ("", ""),
    ],
)
def test_normalisation_follows_squad_step_by_step(text, normal):
    """The order of the steps matters: articles removed before punctuation would give other words."""
    assert normalize_answer(text) == normal


def test_exact_match_takes_any_answer_and_nothing_less_than_the_whole():
    """A match of part of an answer, or of the first answer only, would inflate or deflate every published figure."""
    assert exact_match("the Beatles.", ["Rolling Stones", "Beatles"]) == 1.0
    assert exact_match("Beatles band", ["Beatles"]) == 0.0
    assert exact_match("cafe", ["café"]) == 0.0
    assert exact_match("東京", ["東京"]) == 1.0


def test_empty_against_empty_is_an_exact_match_but_has_f1_of_zero():
    """The published scorers differ here between the two metrics; making them alike would break parity."""
    assert exact_match("", ["the"]) == 1.0
    assert f1("", ["the"]) == 0.0
    assert f1("?!", ["!"]) == 0.0


def test_f1_counts_words_with_their_multiplicity():
    """2 common of 3 predicted and 4 gold: P 2/3, R 2/4, F1 4/7; sets instead of bags would give another number."""
    assert f1("new new york", ["new york city hall"]) == pytest.approx(4 / 7)
    assert f1("new new york", ["new new jersey"]) == pytest.approx(2 / 3)
    assert f1("red", ["blue", "red green", "red green blue"]) == pytest.approx(2 / 3)
    assert f1("red", ["blue"]) == 0.0


def test_a_question_without_answers_scores_zero():
    """A max over nothing must not raise in the middle of an evaluation, nor count as right."""
    assert exact_match("", []) == 0.0
    assert f1("anything", []) == 0.0


@pytest.mark.parametrize("metric", [exact_match, f1, regex_exact_match])
def test_a_bare_string_for_the_answers_is_refused(metric):
    """A string is a sequence of letters: "Paris" would silently become five one-letter answers."""
    with pytest.raises(InputError, match="list of strings"):
        metric("P", "Paris")


def test_a_regex_must_match_the_whole_normalised_prediction():
    """A search instead of a full match would count a sentence that merely mentions the answer."""
    assert regex_exact_match("The 1990s!", ["19[89]0s"]) == 1.0
    assert regex_exact_match("in the 1990s", ["19[89]0s"]) == 0.0
    assert regex_exact_match("NEW YORK", ["new york( city)?"]) == 1.0
    assert regex_exact_match("(", ["("]) == 0.0
    assert regex_exact_match("", [""]) == 0.0
