"""What the configuration says of the corpus: where it is, and how documents are split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ragkit.corpus import SplitPolicy
from ragkit.sample import passages_path
from ragkit.text.models import resolve


@dataclass(frozen=True, slots=True)
class CorpusSource:
    """A corpus by its place: a file, a folder, an index directory, or ``hf:NAME:CONFIG:SPLIT``."""

    path: str


def built_in_sample() -> CorpusSource:
    """The passages that come with ragkit."""
    return CorpusSource(str(passages_path()))


def split_policy(
    *,
    size: int | None = None,
    unit: Literal["word", "token", "document"] = "word",
    stride: int = 0,
    tokenizer: str | None = None,
) -> SplitPolicy | None:
    """How to split; None, if nothing was asked for, splits documents into 100 words and leaves passages as they are.

    >>> split_policy(), split_policy(size=200)
    (None, SplitPolicy(size=200, unit='word', stride=0, tokenizer=None))
    """
    if size is None and unit == "word" and stride == 0 and tokenizer is None:
        return None
    # as for every other model: a folder, a hub id or pkg://PACKAGE/PATH
    place = None if tokenizer is None else resolve(tokenizer)
    return SplitPolicy(size=size or 100, unit=unit, stride=stride, tokenizer=place)
