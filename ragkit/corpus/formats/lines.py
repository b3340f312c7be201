"""The beginning of a question file, and its lines: unpacked, UTF-8 read strictly, line ends and marks removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ragkit.corpus.sources.lines import DAMAGED, open_binary, read_lines
from ragkit.errors import FormatError, InputError


def check_file(path: Path) -> None:
    """Raise :class:`InputError` unless ``path`` is a file."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file, or a BEIR folder (with queries.jsonl and qrels/)")


def head(path: Path, size: int = 1 << 16) -> bytes:
    """The first ``size`` bytes, unpacked.

    Raises:
        InputError: there is no such file.
        FormatError: the file is packed and damaged.
    """
    check_file(path)
    try:
        with open_binary(path) as file:
            return file.read(size)
    except DAMAGED as error:
        raise FormatError(path, None, f"the file cannot be read ({error})") from error


def lines(path: Path) -> Iterator[tuple[int, str | FormatError]]:
    """Every line that is not blank, with its number from 1; one that is not UTF-8 comes as an error in its place.

    Raises:
        InputError: there is no such file.
        FormatError: the file is packed and damaged.
    """
    check_file(path)
    for number, line in read_lines(path):
        if not isinstance(line, str) or line.strip():
            yield number, line if isinstance(line, str) else FormatError(path, number, line.reason)
