"""Tab-separated passages: DPR's psgs_w100.tsv and its like."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragkit.corpus.sources.fields import ID_FIELDS, TEXT_FIELDS, TITLE_FIELDS, unquote
from ragkit.corpus.sources.lines import read_lines
from ragkit.corpus.sources.rows import BadRow, Row
from ragkit.errors import FormatError
from ragkit.types import Passage

_FIELD = re.compile(r'(?:^|\t)("(?:[^"]|"")*"(?=\t|$)|[^\t]*)')


@dataclass(frozen=True, slots=True)
class _Columns:
    width: int
    id: int
    text: int
    title: int | None


def read_tsv(path: Path) -> Iterator[Row]:
    """Every physical line after the header; without a header the columns are DPR's: id, text and perhaps title.

    Every line is one row, so a quote that nothing closes cannot swallow the rows after it. A field loses its quotes
    only if it is one whole csv-quoted field on its line (inner quotes doubled), as DPR writes them; any other quote
    is a character of the text. A tab inside such a field is text too, where that gives the right number of columns.
    """
    columns: _Columns | None = None
    for line, text in read_lines(path):
        if isinstance(text, BadRow):
            yield Row(path, line, text)
            continue
        if columns is None:
            names = [unquote(name).strip().lower() for name in text.split("\t")]
            columns = _columns(names, path=path, line=line)
            if names[columns.id] in ID_FIELDS:
                continue
        yield Row(path, line, _parse(text, columns))


def has_header(names: Sequence[str]) -> bool:
    """Whether a first line names an id column."""
    return any(unquote(name).strip().lower() in ID_FIELDS for name in names)


def _columns(names: Sequence[str], *, path: Path, line: int) -> _Columns:
    if not has_header(names):
        if len(names) not in (2, 3):
            wanted = "wanted a header 'id<TAB>text<TAB>title', or two or three columns in that order"
            raise FormatError(path, line, f"found {len(names)} columns and no header; {wanted}")
        return _Columns(width=len(names), id=0, text=1, title=2 if len(names) > 2 else None)  # noqa: PLR2004
    text = _place(names, TEXT_FIELDS)
    if text is None:
        raise FormatError(path, line, f"the header has no column of {', '.join(TEXT_FIELDS)}: found {', '.join(names)}")
    return _Columns(width=len(names), id=_place(names, ID_FIELDS) or 0, text=text, title=_place(names, TITLE_FIELDS))


def _place(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _parse(line: str, columns: _Columns) -> Passage | BadRow:
    fields = line.split("\t")
    if len(fields) != columns.width and '"' in line:
        fields = _FIELD.findall(line)
    if len(fields) != columns.width:
        return BadRow(f"found {len(line.split(chr(9)))} columns, wanted {columns.width}{_why(line)}")
    title = "" if columns.title is None else unquote(fields[columns.title])
    return Passage(id=unquote(fields[columns.id]), text=unquote(fields[columns.text]), title=title)


def _why(line: str) -> str:
    if line.count('"') % 2:
        return " (a quoted field cannot go on in the next line: write it on one line, or the corpus as JSONL)"
    return ""
