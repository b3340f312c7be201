"""Parquet files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragkit.corpus import ReadOptions, read_corpus
from ragkit.errors import FormatError, InputError
from ragkit.types import Passage


def table(folder: Path, columns: dict[str, object], **options: int) -> Path:
    path = folder / "corpus.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_every_row_group_is_read_in_order_whatever_else_the_table_holds(tmp_path: Path) -> None:
    """A vector column that is read along would multiply the time and the memory."""
    rows = range(2500)
    columns = {"_id": [str(row) for row in rows], "vector": [[0.0] * 8] * 2500, "title": ["T"] * 2500}
    path = table(tmp_path, columns | {"text": [f"text {row}" for row in rows]}, row_group_size=700)
    assert list(read_corpus(path)) == [Passage(str(row), f"text {row}", "T") for row in rows]


def test_numbers_as_ids_and_large_strings_are_read(tmp_path: Path) -> None:
    """Polars writes large_string, and ids are often int64."""
    path = table(tmp_path, {"id": [1, 2], "text": pa.array(["a", "é"], pa.large_string())})
    assert list(read_corpus(path)) == [Passage("1", "a"), Passage("2", "é")]


def test_a_null_or_broken_text_is_the_fault_of_its_row(tmp_path: Path) -> None:
    """fault 12, 16: Arrow does not check UTF-8, and one broken value would lose its batch of a thousand rows."""
    broken = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"c"]).buffers())
    path = table(tmp_path, {"id": ["1", "2", "3"], "text": broken})
    with pytest.raises(FormatError, match=r"corpus\.parquet:2: 'text' is not UTF-8"):
        list(read_corpus(path))
    assert [p.id for p in read_corpus(path, options=ReadOptions(on_error="skip"))] == ["1", "3"]
    path = table(tmp_path, {"id": ["1", "2"], "text": ["a", None]})
    with pytest.raises(FormatError, match=r":2: 'text' is null"):
        list(read_corpus(path))


def test_tables_of_something_else_and_damaged_files_are_refused(tmp_path: Path) -> None:
    """Arrow's message for a truncated file speaks of footers and magic bytes, and names no file."""
    with pytest.raises(InputError, match=r"is a file of questions \(it has answers, question\)"):
        list(read_corpus(table(tmp_path, {"question": ["who"], "answers": [["x"]]})))
    with pytest.raises(FormatError, match=r"no column of text, .*: found id, body"):
        list(read_corpus(table(tmp_path, {"id": ["1"], "body": ["x"]})))
    path = table(tmp_path, {"id": ["1"], "text": ["x"]})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FormatError, match=r"corpus\.parquet: cannot be read as Parquet"):
        list(read_corpus(path))
