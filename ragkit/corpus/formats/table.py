"""What a format is, and how one reads or writes records with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ragkit.corpus.formats.records import Record
from ragkit.errors import FormatError
from ragkit.types import Example

Kind = Literal["examples", "passages", "run", "qrels"]
Found = tuple[int, Example] | FormatError  # an example with the line its record starts at, or what is wrong there
ExampleReader = Callable[[Path], Iterator[Found]]
ExampleWriter = Callable[[Iterable[Example], Path], None]


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table of formats.

    ``read_with`` gives examples, and errors in the place of faulty records; ``write_with`` writes a file that nobody
    else sees yet. ``hold`` is the example as it would come back after a write and a read, or None where the format
    cannot hold it at all; what it leaves out is what a conversion reports as dropped.
    """

    name: str
    kind: Kind
    description: str
    read_with: ExampleReader | None = None
    write_with: ExampleWriter | None = None
    hold: Callable[[Example], Example | None] = lambda example: example

    @property
    def reads(self) -> bool:
        """Whether ragkit reads it as what its kind says."""
        return self.read_with is not None or self.kind != "examples"

    @property
    def writes(self) -> bool:
        """Whether ragkit writes it."""
        return self.write_with is not None


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
