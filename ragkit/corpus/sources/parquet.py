"""Parquet files, read row group by row group; columns are named as the fields of JSON lines are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from ragkit.corpus.sources.fields import FIELDS, ID_FIELDS, TEXT_FIELDS, question_fields, to_passage
from ragkit.corpus.sources.rows import Row
from ragkit.errors import FormatError, InputError

_ROWS_AT_ONCE = 1024


def read_parquet(path: Path) -> Iterator[Row]:
    """Every row of a Parquet file; ``line`` is the number of the row, from 1."""
    import pyarrow.parquet as pq  # noqa: PLC0415  slow to import

    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if name in FIELDS]
            check_columns(path, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=names):
                for record in _records(batch):
                    number += 1
                    yield Row(path, number, to_passage(record))
    except (pa.ArrowInvalid, OSError) as error:
        raise FormatError(path, None, f"cannot be read as Parquet ({error})") from error


def check_columns(path: Path | str, names: list[str]) -> None:
    """Raise :class:`FormatError` where a table has no id or no text, :class:`InputError` where it has questions."""
    questions = question_fields(names)
    if questions:
        raise InputError(
            f"{path} is a file of questions (it has {', '.join(questions)}), not of passages: give it as data="
        )
    for wanted in (ID_FIELDS, TEXT_FIELDS):
        if not set(wanted).intersection(names):
            raise FormatError(path, None, f"no column of {', '.join(wanted)}: found {', '.join(names)}")


def _records(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    # strings as bytes: invalid UTF-8 is then the fault of one row, not of the whole batch
    columns = [column.cast(pa.binary()) if pa.types.is_string(column.type) else column for column in batch.columns]
    names = batch.schema.names
    for values in zip(*(column.to_pylist() for column in columns), strict=True):
        yield dict(zip(names, values, strict=True))
