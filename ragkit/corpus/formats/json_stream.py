"""Objects of a JSON file one at a time: of lines, of one list, or of a list or the members inside one object."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NoReturn

from ragkit.corpus.formats.lines import head, lines
from ragkit.corpus.formats.records import Record, shown
from ragkit.corpus.sources.lines import DAMAGED, open_binary
from ragkit.errors import FormatError

_CHUNK = 1 << 20  # bytes read at a time
_LARGEST = 1 << 28  # characters of one record: a quote that is never closed must not load the file
_WHITE = " \t\r\n"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def records(path: Path, *, under: Sequence[str] = ()) -> Iterator[Record | FormatError]:
    """The objects of a JSON Lines file, of a JSON list, or of the list under one of the keys ``under``.

    What is wrong with one record comes in its place, as an error that the caller may raise or count.

    Raises:
        FormatError: the rest of the file cannot be read; the message gives the line, and in a list the record's number.
    """
    if under or head(path).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        yield from _listed(path, under)
        return
    for number, line in lines(path):
        yield line if isinstance(line, FormatError) else _of_line(path, number, line)


def members(path: Path) -> Iterator[tuple[str, Record] | FormatError]:
    """Keys and objects of a file that is one object of objects.

    Raises:
        FormatError: as :func:`records`.
    """
    with open_binary(path) as file:
        scanner = _Scanner(path, file)
        scanner.expect("{")
        for key in scanner.passed_keys():
            line = scanner.line
            record = _as_record(path, line, scanner.value(), f"record {key!r}")
            yield (key, record) if isinstance(record, Record) else record
        scanner.end()


def first_record(path: Path) -> Record | FormatError | None:
    """The object that shows a JSON file's format, or None in an empty list.

    It is the first of a list, of the list under ``data`` or ``Data``, or of an object of objects, or else the first
    line. No more of the file is read than it takes.
    """
    with open_binary(path) as file:
        scanner = _Scanner(path, file)
        if scanner.peek() == "[":
            return next(_elements(path, scanner), None)
        scanner.expect("{")
        line, fields = scanner.line, {}
        for key in scanner.passed_keys():
            if key in {"data", "Data"} and scanner.peek() == "[":
                return next(_elements(path, scanner), None)
            fields[key] = scanner.value()
            if len(fields) == 1 and isinstance(fields[key], dict) and "contexts" in fields[key]:
                return Record(path, line, fields[key])
        return Record(path, line, fields)


def _of_line(path: Path, number: int, line: str) -> Record | FormatError:
    try:
        value = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return FormatError(path, number, f"not JSON: {error}")
    if isinstance(value, dict):
        return Record(path, number, value)
    return FormatError(path, number, f"wanted an object, got {shown(value)}")


def _listed(path: Path, under: Sequence[str]) -> Iterator[Record | FormatError]:
    with open_binary(path) as file:
        scanner = _Scanner(path, file)
        if scanner.peek() == "[":
            yield from _elements(path, scanner)
            scanner.end()
            return
        scanner.expect("{")
        is_found = False
        for key in scanner.passed_keys():
            if key in under and scanner.peek() == "[":
                is_found = True
                yield from _elements(path, scanner)
            else:
                scanner.value()
        scanner.end()
        if not is_found:
            raise FormatError(path, 1, f"no list under {' or '.join(map(repr, under))}")


def _elements(path: Path, scanner: _Scanner) -> Iterator[Record | FormatError]:
    scanner.expect("[")
    number = 0
    while scanner.peek() != "]":
        number += 1
        line = scanner.line
        yield _as_record(path, line, scanner.value(), f"record {number}")
        scanner.comma("]")
    scanner.expect("]")


def _as_record(path: Path, line: int, value: object, place: str) -> Record | FormatError:
    if isinstance(value, dict):
        return Record(path, line, value, place)
    return FormatError(path, line, f"{place}: wanted an object, got {shown(value)}")


class _Scanner:
    """A cursor over JSON text that is read as needed and knows its line."""

    def __init__(self, path: Path, file: BufferedIOBase) -> None:
        self._path, self._file = path, file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._is_done = "", 0, False
        self.line = 1

    def peek(self) -> str:
        """The next character that is not white space, or "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _WHITE:
                self.line += self._text[self._at] == "\n"
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(_CHUNK):
                return ""

    def expect(self, sign: str) -> None:
        found = self.peek()
        if found != sign:
            self._fail(f"wanted {sign!r}, got {found!r}" if found else f"the file ends where {sign!r} was wanted")
        self._at += 1

    def comma(self, closing: str) -> None:
        """Pass the comma between two elements; before ``closing`` there is none."""
        if self.peek() == closing:
            return
        self.expect(",")
        if self.peek() == closing:
            self._fail(f"a comma before {closing!r}")

    def passed_keys(self) -> Iterator[str]:
        """The keys of an object whose brace was passed; the caller takes each value before the next key."""
        while self.peek() != "}":
            key = self.value()
            if not isinstance(key, str):
                self._fail(f"wanted a key in quotes, got {shown(key)}")
            self.expect(":")
            self.peek()
            yield key
            self.comma("}")
        self.expect("}")

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        size = _CHUNK
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise FormatError(self._path, self.line, "JSON nested too deeply") from error
            except ValueError as error:
                # a value cut off by the end of what was read looks malformed: read on, more each time, before saying so
                if not self._may_be_cut(error) or not self._more(size):
                    self._fail_at(error)
                size *= 2
                continue
            if end == len(self._text) and self._more(size):
                continue  # a number may go on in what was not read yet
            self.line += self._text.count("\n", self._at, end)
            self._at = end
            return value

    def end(self) -> None:
        if self.peek():
            self._fail(f"{self._text[self._at : self._at + 20]!r} after the end of the JSON value")

    def _may_be_cut(self, error: ValueError) -> bool:
        if not isinstance(error, json.JSONDecodeError) or len(self._text) - self._at > _LARGEST:
            return False
        return error.msg.startswith("Unterminated string") or error.pos > len(self._text) - 16

    def _more(self, size: int) -> bool:
        if self._is_done:
            return False
        try:
            raw = self._file.read(size)
            text = self._decode.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            line = self.line + self._text.count("\n", self._at) + error.object[: error.start].count(b"\n")
            raise FormatError(
                self._path, line, f"byte 0x{error.object[error.start]:02x} is not UTF-8; convert the file first"
            ) from error
        except DAMAGED as error:
            raise FormatError(self._path, self.line, f"the file cannot be read on from here ({error})") from error
        self._text, self._at = self._text[self._at :] + text, 0
        self._is_done = not raw
        return not self._is_done

    def _fail(self, reason: str) -> NoReturn:
        raise FormatError(self._path, self.line, f"not JSON: {reason}")

    def _fail_at(self, error: ValueError) -> NoReturn:
        line = self.line
        if isinstance(error, json.JSONDecodeError):
            line += self._text.count("\n", self._at, error.pos)
        raise FormatError(self._path, line, f"not JSON: {getattr(error, 'msg', error)}") from error
