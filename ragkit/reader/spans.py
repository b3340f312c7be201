"""Spans of a passage: the best ones by a reader's logits, and those where an answer stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens ``start`` to ``end`` (inclusive) of a passage's text; ``score`` is the sum of the two logits."""

    start: int
    end: int
    score: float


def best_spans(
    start: Float[np.ndarray, " token"],
    end: Float[np.ndarray, " token"],
    *,
    words: Int[np.ndarray, " token"],
    max_tokens: int = 10,
    limit: int = 10,
) -> list[Span]:
    """The ``limit`` best spans of one text by start logit + end logit, best first (DPR's rules).

    A span has at most ``max_tokens`` tokens and is then extended to the whole words it touches (``words`` numbers
    them); one that then contains a better span or lies in it is skipped. Equal scores: the earlier, then the shorter.
    All entries are tokens of the passage's text, so that nothing else can be an answer. No token: no span.

    >>> words = np.array([0, 1, 1, 2])  # the second word has two tokens
    >>> logits = np.array([0.0, 0.0, 3.0, 1.0])
    >>> [(span.start, span.end, span.score) for span in best_spans(logits, logits, words=words)]
    [(1, 2, 6.0), (3, 3, 2.0), (0, 0, 0.0)]
    """
    n = len(start)
    width = min(max_tokens, n)
    if width == 0:
        return []
    ends = np.arange(n)[:, None] + np.arange(width)[None, :]  # [start, length - 1]
    scores = np.where(ends < n, start[:, None] + end[np.minimum(ends, n - 1)], -np.inf)
    found: list[Span] = []
    for flat in np.argsort(-scores, axis=None, kind="stable"):
        first, last = int(flat // width), int(flat // width + flat % width)
        if last >= n:
            continue
        left, right = _whole_words(first, last, words=words)
        if not any(_is_nested((left, right), (span.start, span.end)) for span in found):
            found.append(Span(left, right, float(scores[first, last - first])))
        if len(found) == limit:
            break
    return found


def _is_nested(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return (other[0] <= one[0] and one[1] <= other[1]) or (one[0] <= other[0] and other[1] <= one[1])


def _whole_words(first: int, last: int, *, words: Int[np.ndarray, " token"]) -> tuple[int, int]:
    """The span extended to the first token of its first word and the last token of its last one."""
    while first > 0 and words[first - 1] == words[first]:
        first -= 1
    while last + 1 < len(words) and words[last + 1] == words[last]:
        last += 1
    return first, last


def cut(text: str, offsets: Int[np.ndarray, "token 2"], span: Span) -> str:
    """The characters of the span, as the passage writes them; space that a tokenizer counts to a word is dropped."""
    return text[int(offsets[span.start, 0]) : int(offsets[span.end, 1])].strip()


def token_spans(
    places: Sequence[tuple[int, int]], offsets: Int[np.ndarray, "token 2"], *, limit: int = 10
) -> list[tuple[int, int]]:
    """The tokens (first, last; inclusive) of each place in characters (end exclusive), at most ``limit``, in order.

    A place that the tokens do not cover whole, because the passage was cut before its end, has no span.
    """
    found: list[tuple[int, int]] = []
    for begin, stop in places:
        touched = np.flatnonzero((offsets[:, 1] > begin) & (offsets[:, 0] < stop))
        if len(touched) and offsets[touched[-1], 1] >= stop and (int(touched[0]), int(touched[-1])) not in found:
            found.append((int(touched[0]), int(touched[-1])))
    return found[:limit]
