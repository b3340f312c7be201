"""Questions with answers from a file of any format, one at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ragkit.corpus.formats.catalogue import FORMATS
from ragkit.corpus.formats.holding import Hold, cleaned
from ragkit.corpus.formats.records import question_id
from ragkit.corpus.formats.sniffing import sniff
from ragkit.corpus.formats.table import Found
from ragkit.corpus.formats.writing import atomically
from ragkit.corpus.report import ReadReport
from ragkit.errors import FormatError, InputError
from ragkit.types import Example


def read_examples(
    path: Path | str,
    *,
    format: str | None = None,  # noqa: A002  the word every reader knows
    on_error: Literal["raise", "skip"] = "raise",
    report: ReadReport | None = None,
) -> Iterator[Example]:
    """The examples of a question file, in order; the format is seen from the content unless given.

    Ids are unique: a file's own id may not come twice, and a derived one (``records.question_id``) gets ``-2``, ``-3``
    where a question comes again. NUL and lone surrogates become U+FFFD
    (counted); in ids they are errors. With ``on_error="skip"`` faulty records are counted in ``report`` and left out.

    Raises:
        InputError: there is no such file or format, or the format holds no questions.
        FormatError: a record breaks the format.
    """
    path = Path(path)
    name = format or sniff(path)
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}; choose from {sorted(FORMATS)}")
    reader = FORMATS[name].read_with
    if reader is None:
        readable = sorted(known.name for known in FORMATS.values() if known.read_with is not None)
        raise InputError(f"{path} is {name} ({FORMATS[name].description}), which holds no questions; wanted {readable}")
    yield from checked_examples(reader(path), path, on_error=on_error, report=report)


def checked_examples(
    items: Iterable[Found],
    path: Path,
    *,
    on_error: Literal["raise", "skip"] = "raise",
    report: ReadReport | None = None,
) -> Iterator[Example]:
    """What a reader found, as :func:`read_examples` gives it: ids unique, texts clean, errors raised or counted.

    Raises:
        FormatError: a record is faulty, or its id is another's.
    """
    report = report if report is not None else ReadReport()
    ids = _Ids(path)
    for item in items:
        report.rows += 1
        found = item if isinstance(item, FormatError) else ids.unique(*item)
        if isinstance(found, FormatError):
            report.refuse(found, on_error=on_error)
            continue
        clean = cleaned(found)
        report.read += 1
        report.replaced += clean != found
        yield clean
    report.check_share(1.0)


def write_examples(
    examples: Iterable[Example],
    path: Path | str,
    *,
    format: str,  # noqa: A002  the word every reader knows
    overwrite: bool = False,
) -> None:
    """Write a question file; nothing is at ``path`` until all of it is there. ``.gz`` packs it.

    What the format cannot hold of an example is left out (``FORMATS[format].hold`` shows what stays); NUL and lone
    surrogates become U+FFFD.

    Raises:
        InputError: ``path`` is there already, the format is unknown or is not written, or it cannot hold some example.
    """
    path, entry = Path(path), FORMATS.get(format)
    if entry is None or entry.write_with is None or entry.hold is None:
        writable = sorted(known.name for known in FORMATS.values() if known.write_with is not None)
        raise InputError(f"cannot write questions as {format!r}; choose from {writable}")
    with atomically(path, overwrite=overwrite) as aside:
        entry.write_with((_checked(example, entry.hold, format) for example in examples), aside)


def _checked(example: Example, hold: Hold, name: str) -> Example:
    if hold(example) is None:
        raise InputError(f"{name} cannot hold the question {example.id!r} (see docs/formats.md for what it needs)")
    return cleaned(example)


class _Ids:
    """The ids met so far, with their lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, int] = {}

    def unique(self, line: int, example: Example) -> Example | FormatError:
        """The example with an id that no other has, or the error that its file gives one twice."""
        if example.id not in self._lines:
            self._lines[example.id] = line
            return example
        if example.id != question_id(example.question):
            return FormatError(
                self._path, line, f"the id {example.id!r} is taken by the question of line {self._lines[example.id]}"
            )
        number = next(n for n in itertools.count(2) if f"{example.id}-{n}" not in self._lines)
        self._lines[f"{example.id}-{number}"] = line
        return replace(example, id=f"{example.id}-{number}")
