"""Does a passage contain an answer: DPR's token match, the substring form, and regular expressions."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import regex

from ragkit.metrics.answers import check_answers, normalize_answer

_TOKEN = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]")
_FLAGS = regex.IGNORECASE | regex.UNICODE | regex.MULTILINE


def token_line(text: str) -> str:
    """The tokens of DPR's matcher as one line, ``" w1 w2 ... "``.

    A token is a run of letters, digits and marks or any other single sign, of the NFD form, in lower case.
    No token holds a space, so a list of tokens is part of another exactly if its line is part of the other's
    line. Splitting is what costs in :func:`has_answer`: keep the lines of passages that are matched often.

    >>> token_line("It's E=mc2.")
    " it ' s e = mc2 . "
    """
    tokens = _TOKEN.findall(unicodedata.normalize("NFD", text))
    return f" {' '.join(tokens).lower()} " if tokens else ""


def line_has_answer(line: str, answer_lines: Sequence[str]) -> bool:
    """Whether one of the answers' :func:`token_line` is part of the passage's; an answer without tokens never is."""
    return any(answer and answer in line for answer in answer_lines)


def has_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether the tokens of one of the answers stand side by side in the text (DPR's has_answer).

    Give the passage's text without its title. An answer that has no token (empty, only control signs) matches
    nothing here; taken literally the rule would find it everywhere.

    >>> has_answer("Wilhelm Conrad Röntgen won in 1901.", ["röntgen"]), has_answer("in 1901", ["190"])
    (True, False)
    """
    check_answers(answers)
    return line_has_answer(token_line(text), [token_line(answer) for answer in answers])


def contains_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether one of the normalised answers is a substring of the normalised text (KILT and FlashRAG).

    Looser than :func:`has_answer` ("190" is in "1901"), so the two are not comparable. An answer that is empty
    after :func:`~ragkit.metrics.answers.normalize_answer` matches nothing.
    """
    check_answers(answers)
    return normalized_contains(normalize_answer(text), [normalize_answer(answer) for answer in answers])


def normalized_contains(text: str, answers: Sequence[str]) -> bool:
    """:func:`contains_answer` for a text and answers that are normalised already."""
    return any(answer and answer in text for answer in answers)


def regex_match(text: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns is found in the text, ignoring case, ``^`` and ``$`` at every line (CuratedTREC).

    Text and pattern are NFD-normalised. A pattern that does not compile, or is empty, matches nothing.
    """
    check_answers(patterns)
    normal = unicodedata.normalize("NFD", text)
    return any(compiled.search(normal) is not None for compiled in map(_compiled, patterns) if compiled is not None)


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> regex.Pattern[str] | None:
    try:
        return regex.compile(unicodedata.normalize("NFD", pattern), _FLAGS) if pattern else None
    except regex.error:
        return None
