"""The built-in sample: 326 passages and 778 questions written for ragkit; README.md beside this file describes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
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


def held_out_lines(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """The lines of a split in two parts: to learn from, and one held-out question of every gold passage.

    The held-out question is the first of the first passage, the second of the second, and so on in turn, so that both
    parts have questions of both kinds. What is learned about a passage is then measured on a question not seen.
    """
    by_passage: dict[str, list[int]] = {}
    for row, line in enumerate(lines):
        by_passage.setdefault(json.loads(line)["positive_ctxs"][0]["id"], []).append(row)
    held = {rows[place % len(rows)] for place, rows in enumerate(by_passage.values())}
    return [line for row, line in enumerate(lines) if row not in held], [lines[row] for row in sorted(held)]


__all__ = ["SPLITS", "held_out_lines", "passages_path", "questions_path"]
