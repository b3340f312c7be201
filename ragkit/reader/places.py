"""Where in a text an answer stands, in characters of the text as it is written."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator, Sequence

import regex

from ragkit.metrics.answers import normalize_answer

_TOKEN = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]")  # DPR's, as in ragkit.metrics.matching
_CLUSTER = regex.compile(r"\P{M}\p{M}*|\p{M}+")  # what NFD can reorder stays inside one cluster
_WORD = re.compile(r"\S+")

Piece = tuple[str, int, int]  # a token as it is compared, and the characters of the text it comes from


def answer_places(text: str, answers: Sequence[str]) -> list[tuple[int, int]]:
    """Every place ``(begin, end)`` of the text where one of the answers stands, in order; ``end`` is exclusive.

    An answer stands where its tokens do (the match of :func:`ragkit.metrics.has_answer`: case, accents written as one
    or two characters and white space do not matter). Only if that finds no answer at all, the words are compared as
    exact match compares them: without ASCII punctuation and articles ("Levis Stadium" finds "Levi's Stadium").

    >>> text = "Röntgen won; the score was 23–16."
    >>> [text[begin:end] for begin, end in answer_places(text, ["23 – 16", "RÖNTGEN"])]
    ['Röntgen', '23–16']
    """
    found = _search(
        list(_matcher_tokens(text)), [[piece for piece, _, _ in _matcher_tokens(answer)] for answer in answers]
    )
    if not found:
        found = _search(list(_scorer_words(text)), [normalize_answer(answer).split() for answer in answers])
    return sorted(found)


def _search(pieces: Sequence[Piece], answers: Sequence[Sequence[str]]) -> set[tuple[int, int]]:
    """From the first to the last character of every place where the pieces of an answer stand side by side."""
    names = [name for name, _, _ in pieces]
    starts: dict[str, list[int]] = {}
    for at, name in enumerate(names):
        starts.setdefault(name, []).append(at)
    return {
        (pieces[at][1], pieces[at + len(answer) - 1][2])
        for answer in answers
        if answer
        for at in starts.get(answer[0], [])
        if names[at : at + len(answer)] == list(answer)
    }


def _matcher_tokens(text: str) -> Iterator[Piece]:
    """The tokens of :func:`ragkit.metrics.token_line`, each with its place."""
    letters: list[str] = []
    origin: list[tuple[int, int]] = []
    for cluster in _CLUSTER.finditer(text):
        normal = unicodedata.normalize("NFD", cluster.group())
        letters.append(normal)
        origin.extend([cluster.span()] * len(normal))
    for token in _TOKEN.finditer("".join(letters)):
        yield token.group().lower(), origin[token.start()][0], origin[token.end() - 1][1]


def _scorer_words(text: str) -> Iterator[Piece]:
    """The words of :func:`ragkit.metrics.normalize_answer`, each with its place without the punctuation around it."""
    for word in _WORD.finditer(text):
        kept = word.group().strip(string.punctuation)
        begin = word.start() + word.group().find(kept)
        for piece in normalize_answer(word.group()).split():
            yield piece, begin, begin + len(kept)
