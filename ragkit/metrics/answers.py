"""Scores of one predicted answer against its gold answers: exact match and F1, as SQuAD defines them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import regex

from ragkit.errors import InputError

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation, without the words a, an and the, single spaces (SQuAD 1.1).

    Only ASCII punctuation goes (a dash "–" stays), and accents stay: this is the published rule.

    >>> normalize_answer("The  U.S.A. (an  island)")
    'usa island'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 if the prediction equals one of the answers after :func:`normalize_answer`, else 0.0; no answers: 0.0.

    >>> exact_match("The Beatles!", ["beatles", "The Rolling Stones"])
    1.0
    """
    check_answers(answers)
    found = normalize_answer(prediction)
    return float(any(found == normalize_answer(answer) for answer in answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """The largest bag-of-words F1 of the prediction with one of the answers, in [0, 1]; no common word: 0.0.

    The bags hold the words of :func:`normalize_answer`, so an empty prediction scores 0.0 even against an empty
    answer (SQuAD 1.1, DPR and FiD alike). No answers: 0.0.

    >>> round(f1("Barack Obama", ["President Barack Hussein Obama"]), 3)
    0.667
    """
    check_answers(answers)
    return max((_word_f1(normalize_answer(prediction), normalize_answer(answer)) for answer in answers), default=0.0)


def _word_f1(prediction: str, answer: str) -> float:
    found, wanted = prediction.split(), answer.split()
    common = sum((Counter(found) & Counter(wanted)).values())
    return 2 * common / (len(found) + len(wanted)) if common else 0.0


def regex_exact_match(prediction: str, patterns: Sequence[str]) -> float:
    """1.0 if one of the patterns matches the whole normalised prediction, ignoring case (FlashRAG's rule), else 0.0.

    A pattern that does not compile, or is empty, matches nothing.
    """
    check_answers(patterns)
    found = normalize_answer(prediction)
    return float(any(_fullmatches(pattern, found) for pattern in patterns))


def _fullmatches(pattern: str, text: str) -> bool:
    try:
        return bool(pattern) and regex.fullmatch(pattern, text, flags=regex.IGNORECASE) is not None
    except regex.error:
        return False


def check_answers(answers: Sequence[str]) -> None:
    """Raise InputError where one string stands for a list of answers: its letters would be the answers."""
    if isinstance(answers, str):
        raise InputError(f"answers must be a list of strings, got the string {answers!r}; write [{answers!r}]")
