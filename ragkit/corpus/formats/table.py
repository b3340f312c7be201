"""What a format is, and how one reads or writes records with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ragkit.corpus.formats.holding import Hold
from ragkit.corpus.formats.json_stream import records
from ragkit.corpus.formats.records import Record
from ragkit.corpus.formats.writing import is_for_lines, write_lines, write_list
from ragkit.errors import FormatError
from ragkit.types import Example

Kind = Literal["examples", "passages", "run", "qrels"]
Found = tuple[int, Example] | FormatError  # an example with the line its record starts at, or what is wrong there
ExampleReader = Callable[[Path], Iterator[Found]]
ExampleWriter = Callable[[Iterable[Example], Path], None]


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table of formats.

    ``reads`` and ``writes`` say what ragkit does with it. For ``kind`` "examples", ``read_with`` gives examples, and
    errors in the place of faulty records; ``write_with`` writes a file that nobody else sees yet; ``hold`` is the
    example as it would come back after a write and a read, or None where the format cannot hold it at all, so what it
    leaves out is what a conversion reports as dropped.
    """

    name: str
    kind: Kind
    description: str
    reads: bool = True
    writes: bool = True
    read_with: ExampleReader | None = None
    write_with: ExampleWriter | None = None
    hold: Hold | None = None


def of_examples(
    name: str,
    description: str,
    read: ExampleReader,
    *,
    write: ExampleWriter | None = None,
    hold: Hold | None = None,
) -> Format:
    """The row of a format of questions; without ``write`` it is read only."""
    return Format(name, "examples", description, True, write is not None, read, write, hold)


def reading(parse: Callable[[Record], Example]) -> ExampleReader:
    """The reader of JSON Lines or a JSON list, each record parsed on its own."""
    return lambda path: parse_each(records(path), parse)


def writing(to_record: Callable[[Example], dict[str, Any]], *, is_list: bool = False) -> ExampleWriter:
    """The writer of JSON Lines; where the format ``is_list``, of a JSON list unless the name ends in ``.jsonl``."""

    def write(examples: Iterable[Example], path: Path) -> None:
        made = map(to_record, examples)
        (write_list if is_list and not is_for_lines(path) else write_lines)(made, path)

    return write


def parse_each(records: Iterable[Record | FormatError], parse: Callable[[Record], Example]) -> Iterator[Found]:
    """Each record parsed, with its line; an error, of the record or of its parsing, comes in the record's place."""
    for record in records:
        if isinstance(record, FormatError):
            yield record
            continue
        try:
            yield record.line, parse(record)
        except FormatError as error:
            yield error
