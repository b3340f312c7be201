"""The format of a file, from its content."""

from __future__ import annotations

from pathlib import Path

from ragkit.corpus.formats.json_stream import records
from ragkit.corpus.formats.records import Record
from ragkit.errors import InputError


def sniff(path: Path | str) -> str:
    """The name in ``FORMATS`` of the format of a file, from its first record.

    Raises:
        InputError: no format is like this.
    """
    first = next(records(Path(path)), None)
    if isinstance(first, Record) and "positive_ctxs" in first.value:
        return "dpr"
    raise InputError(f"{path}: not a format that ragkit knows; see docs/formats.md")
