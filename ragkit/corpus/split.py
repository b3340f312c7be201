"""Splitting documents into passages: windows of words or tokens, never across documents, never inside a word."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ragkit.errors import InputError
from ragkit.types import Document, Passage

_UNITS = ("word", "token", "document")
# Chinese and Japanese write no spaces: each of their characters is a word; a run of 200 others is cut
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
_WORD = re.compile(rf"[{_CJK}]|[^\s{_CJK}]{{1,200}}")


@dataclass(frozen=True, slots=True)
class SplitPolicy:
    """How documents become passages: windows of at most ``size`` units of which ``stride`` repeat the window before.

    ``unit`` is "word" (runs of characters between spaces; a Chinese or Japanese character is one), "token" (of
    ``tokenizer``: a ``tokenizer.json`` or a folder that holds one) or "document" (no splitting).
    """

    size: int = 100
    unit: str = "word"
    stride: int = 0
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        if self.unit not in _UNITS:
            raise InputError(f"unknown unit {self.unit!r} to split by; choose from {sorted(_UNITS)}")
        if self.size < 1 or not 0 <= self.stride < self.size:
            raise InputError(f"size {self.size} and stride {self.stride} do not fit: wanted 0 <= stride < size")
        if (self.unit == "token") != (self.tokenizer is not None):
            raise InputError(
                f"unit {self.unit!r} with tokenizer {self.tokenizer!r}: give a tokenizer with unit 'token'"
            )


def split_document(document: Document | Passage, policy: SplitPolicy) -> Iterator[Passage]:
    """The passages of one document in order, ids ``DOCUMENT-0``, ``DOCUMENT-1``, ..., all with the document's title.

    White space, line ends among it, becomes single spaces. With unit "document" it is one passage under its own id,
    as it stands. A document without words gives nothing. A word longer than ``size`` tokens stands alone.
    """
    if policy.unit == "document":
        yield Passage(id=document.id, text=document.text, title=document.title)
        return
    spans = [match.span() for match in _WORD.finditer(document.text)]
    lengths = [1] * len(spans) if policy.unit == "word" else _token_counts(document.text, spans, policy.tokenizer or "")
    windows = _windows(lengths, size=policy.size, stride=policy.stride)
    for number, (first, last) in enumerate(windows):
        text = " ".join(document.text[spans[first][0] : spans[last - 1][1]].split())
        yield Passage(id=f"{document.id}-{number}", text=text, title=document.title)


def _windows(lengths: Sequence[int], *, size: int, stride: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges of words; each repeats at most ``stride`` units of the one before."""
    first = 0
    while first < len(lengths):
        last, filled = first, 0
        while last < len(lengths) and (last == first or filled + lengths[last] <= size):
            filled += lengths[last]
            last += 1
        yield first, last
        if last == len(lengths):
            return
        start, repeated = last, 0
        while start - 1 > first and repeated + lengths[start - 1] <= stride:
            start -= 1
            repeated += lengths[start]
        first = start


def _token_counts(text: str, spans: Sequence[tuple[int, int]], tokenizer: str) -> list[int]:
    """Tokens that begin in each word; what stands between two words counts for the one before."""
    starts = [start for start, _ in spans]
    counts = [0] * len(spans)
    for start, end in _load(tokenizer).encode(text, add_special_tokens=False).offsets:
        if end > start and starts:
            counts[max(bisect_right(starts, _first_visible(text, start, end)) - 1, 0)] += 1
    return counts


def _first_visible(text: str, start: int, end: int) -> int:
    # byte-level tokenizers give a word's space to its first token
    while start < end - 1 and text[start].isspace():
        start += 1
    return start


@lru_cache(maxsize=4)
def _load(tokenizer: str) -> Any:
    from tokenizers import Tokenizer  # noqa: PLC0415  only where documents are split by tokens

    path = Path(tokenizer)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise InputError(
            f"no tokenizer at {path}: wanted a tokenizer.json of a fast tokenizer, or a folder that has one"
        )
    content = path.read_text(encoding="utf-8", errors="replace")
    if not content.lstrip().startswith("{") or '"model"' not in content:  # the library raises a bare Exception
        raise InputError(f"{path} is no tokenizer: wanted the tokenizer.json of a fast tokenizer")
    loaded = Tokenizer.from_str(content)
    loaded.no_truncation()
    loaded.no_padding()
    return loaded
