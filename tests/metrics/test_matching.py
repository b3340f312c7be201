"""Whether a passage contains an answer, on cases worked by hand."""

from __future__ import annotations

import unicodedata

import pytest

from ragkit.errors import InputError
from ragkit.metrics import contains_answer, has_answer, regex_match, token_line


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("He was born in Paris, France.", "paris", True),
        ("He was born in Paris, France.", "Paris France", False),  # the comma is a token between them
        ("He was born in Paris, France.", "Paris,France", True),
        ("Parisian life", "Paris", False),  # whole tokens only
        ("in 1901", "190", False),
        ("Dr. Röntgen", unicodedata.normalize("NFC", "RÖNTGEN"), True),
        ("Dr. Röntgen", unicodedata.normalize("NFD", "röntgen"), True),
        ("Dr. Rontgen", "Röntgen", False),  # accents count
        ("the U.S. army", "U.S.", True),
        ("the US army", "U.S.", False),
        ("首都は東京です", "東京", False),  # a run of letters is one token, also where a language writes no spaces
        ("首都は 東京 です", "東京", True),
        ("score 23–16 in", "23–16", True),
        ("what ?!", "?!", True),  # an answer of signs only has tokens: they must stand side by side
        ("what ? or !", "?!", False),
        ("नमस्ते दुनिया", "दुनिया", True),  # combining vowel signs belong to their word
        ("non\u00a0breaking", "non breaking", True),
        ("zero\u200bwidth", "zero width", True),  # format signs separate and are no token
    ],
)
def test_an_answer_is_found_as_a_run_of_whole_tokens(text, answer, found):
    """DPR's rule; a substring or a bag of words would agree on the easy cases and inflate hit@k on the others."""
    assert has_answer(text, [answer]) is found


@pytest.mark.parametrize("answer", ["", "   ", "\u200b", "\x00\n"])
def test_an_answer_without_tokens_is_found_nowhere(answer):
    """Read literally the rule finds an empty list of tokens in every passage: hit@1 would be 1.0."""
    assert not has_answer("any text", [answer])
    assert not has_answer("", [answer])
    assert has_answer("any text", [answer, "text"])


def test_an_empty_passage_contains_nothing():
    """Empty passages are indexed: they must neither crash the matcher nor count as a hit."""
    assert not has_answer("", ["x"])
    assert not contains_answer("", ["x"])
    assert not has_answer("x", [])


def test_the_line_of_tokens_matches_as_the_lists_of_tokens_do():
    """The matcher compares lines for speed: a token that held a space would break the equivalence."""
    assert token_line("A-b  c\u2009d") == " a - b c d "
    assert token_line(" \t") == ""
    assert " " not in token_line("".join(map(chr, range(0x2000, 0x2070)))).strip().replace(" ", "")


def test_the_substring_form_is_looser_and_guards_empty_answers_too():
    """Reported under hit@k's name it would look better than DPR's figures for the same run."""
    assert contains_answer("in 1901", ["190"])
    assert contains_answer("The U.S. Army", ["the us army"])
    assert not contains_answer("any text", ["the", "!", ""])


def test_a_regex_is_searched_without_case_and_line_by_line():
    """CuratedTREC's answers are patterns; anchors apply to each line."""
    assert regex_match("first\nSecond line", ["^second"])
    assert regex_match("Born 1879 in Ulm", [r"18\d\d"])
    assert regex_match("café", [unicodedata.normalize("NFD", "CAFÉ")])
    assert not regex_match("Born 1779", [r"18\d\d"])


@pytest.mark.parametrize("pattern", ["(", "[", "*a", ""])
def test_a_pattern_that_does_not_compile_or_is_empty_matches_nothing(pattern):
    """One bad pattern in a file of thousands must not stop the evaluation, nor match every passage."""
    assert not regex_match("( [ *a", [pattern])
    assert regex_match("good", [pattern, "go+d"])


@pytest.mark.parametrize("matches", [has_answer, contains_answer, regex_match])
def test_a_bare_string_for_the_answers_is_refused(matches):
    """Its letters would be the answers, and nearly every passage a hit."""
    with pytest.raises(InputError, match="list of strings"):
        matches("a text", "answer")
