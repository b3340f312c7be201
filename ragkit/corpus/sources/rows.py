"""What every source of a corpus yields: a row's place, and its passage, its document or what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ragkit.types import Document, Passage


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that breaks its format. It is a value, not an exception, so that the rows after it can still be read."""

    reason: str


class Row(NamedTuple):
    """One row of a source; ``line`` counts physical lines from 1, or records where a format has no lines."""

    path: Path
    line: int | None
    value: Passage | Document | BadRow
