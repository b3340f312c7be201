"""Questions with answers from a file of any format, one at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ragkit.corpus.formats.catalogue import FORMATS
from ragkit.corpus.formats.records import mended, question_id
from ragkit.corpus.formats.sniff import sniff
from ragkit.corpus.report import ReadReport
from ragkit.errors import FormatError, InputError
from ragkit.types import Example, Passage


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
    report = report if report is not None else ReadReport()
    ids = _Ids(path)
    for item in reader(path):
        report.rows += 1
        found = item if isinstance(item, FormatError) else ids.unique(*item)
        if isinstance(found, FormatError):
            report.refuse(found, on_error=on_error)
            continue
        clean = _mended(found)
        report.read += 1
        report.replaced += clean is not found
        yield clean
    report.check_share(1.0)


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


def _mended(example: Example) -> Example:
    texts = [example.question, *example.answers, example.target]
    passages = [*example.positives, *example.hard_negatives, *(hit.passage for hit in example.retrieved)]
    texts += [text for passage in passages for text in (passage.text, passage.title)]
    if all(mended(text) is text for text in texts):
        return example
    return Example(
        id=example.id,
        question=mended(example.question),
        answers=tuple(map(mended, example.answers)),
        positives=tuple(map(_mended_passage, example.positives)),
        hard_negatives=tuple(map(_mended_passage, example.hard_negatives)),
        retrieved=tuple(replace(hit, passage=_mended_passage(hit.passage)) for hit in example.retrieved),
        target=mended(example.target),
    )


def _mended_passage(passage: Passage) -> Passage:
    return replace(passage, text=mended(passage.text), title=mended(passage.title))
