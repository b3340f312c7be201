"""The built-in sample: 326 passages and 778 questions written for ragkit; README.md beside this file describes it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from ragkit.errors import InputError

SPLITS: Final = ("train", "dev", "test")


def passages_path() -> Path:
    """The passages: TSV with the header ``id text title``, as DPR's psgs_w100.

    >>> passages_path().name
    'passages.tsv'
    """
    return Path(str(files(__name__) / "passages.tsv"))


def questions_path(split: str) -> Path:
    """The questions of a split, ``train``, ``dev`` or ``test``: DPR's bi-encoder records, one a line.

    The splits share no gold passage. ``semantic`` in a record, which is ours, marks a question that shares next to
    no content word with its gold passage.

    Raises:
        InputError: there is no such split.

    >>> questions_path("dev").name
    'dev.jsonl'
    """
    if split not in SPLITS:
        raise InputError(f"the sample has no split {split!r}; choose from {', '.join(SPLITS)}")
    return Path(str(files(__name__) / f"{split}.jsonl"))


__all__ = ["SPLITS", "passages_path", "questions_path"]
