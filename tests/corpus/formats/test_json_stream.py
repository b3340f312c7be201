from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from ragkit.corpus.formats.json_stream import members, records
from ragkit.corpus.formats.records import Record
from ragkit.errors import FormatError


def values(path: Path, *under: str) -> list[object]:
    return [record.value if isinstance(record, Record) else str(record) for record in records(path, under=under)]


def test_records_of_a_list_know_their_line_and_their_number(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text(json.dumps([{"a": "x\ny"}, {"b": [1, 2]}, {"c": 3}], indent=2))
    found = [record for record in records(path) if isinstance(record, Record)]
    assert [(record.line, record.place) for record in found] == [(2, "record 1"), (5, "record 2"), (11, "record 3")]


def test_a_list_is_streamed(tmp_path: Path) -> None:
    """DPR's training file has 7 GB."""
    path = tmp_path / "list.gz"
    record = json.dumps({"text": "x" * 10_000})
    with gzip.open(path, "wt") as file:
        file.write("[" + ",\n".join([record] * 3000) + "]")
    tracemalloc.start()
    count = sum(1 for _ in records(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 3000
    assert peak < 10_000_000  # of 30 MB


def test_a_record_larger_than_what_is_read_at_once_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "list"
    large = {"text": 'é"\\' * 2_000_000}
    path.write_text(json.dumps([large, {"a": 1}], ensure_ascii=False))
    assert values(path) == [large, {"a": 1}]


def test_the_list_may_come_after_other_members(tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_text('{"version": [1], "data": [{"a": 1}, {"b": 2}], "more": {"data": [{}]}}')
    assert values(path, "data") == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('[{"a": 1}\n{"b": 2}]', ":2: not JSON: wanted ',', got '{'"),
        ('[{"a": 1},\n]', ":2: not JSON: a comma before ']'"),
        ('[{"a": 1}] []', ":1: not JSON: .* after the end of the JSON value"),
        ('[{"a": 1},\n\n{"b": nul}]', ":3: not JSON: Expecting value"),
        ('[{"a": "cut o', ":1: not JSON: Unterminated string"),
        ('[{"a": NaN}]', ":1: not JSON: NaN is not JSON"),
        ('[{"a": ' + "[" * 100_000, ":1: "),
    ],
)
def test_broken_json_is_an_error_of_its_line(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "broken").write_text(content)
    with pytest.raises(FormatError, match=f"broken{reason}"):
        values(tmp_path / "broken")


def test_what_is_no_object_comes_as_an_error_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "list").write_text('[{"a": 1}, 7, {"b": 2}]')
    first, wrong, last = values(tmp_path / "list")
    assert (first, last) == ({"a": 1}, {"b": 2})
    assert str(wrong).endswith("list:1: record 2: wanted an object, got an integer 7")


def test_members_come_with_their_keys(tmp_path: Path) -> None:
    (tmp_path / "object").write_text('{"a": {"x": 1},\n "b": {"x": 2}}')
    found = [member for member in members(tmp_path / "object") if not isinstance(member, FormatError)]
    assert [(key, record.line, record.value) for key, record in found] == [("a", 1, {"x": 1}), ("b", 2, {"x": 2})]


def test_a_cut_off_gzip_file_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    path = tmp_path / "cut.gz"
    whole = gzip.compress(json.dumps([{"text": str(number)} for number in range(100_000)]).encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="cannot be read on from here"):
        values(path)
