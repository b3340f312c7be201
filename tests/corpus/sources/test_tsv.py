"""Tab-separated passages: every physical line is one row, whatever its quotes say."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from ragkit.corpus import ReadOptions, ReadReport, read_corpus
from ragkit.errors import FormatError, InputError
from ragkit.types import Passage

HEADER = "id\ttext\ttitle\n"


def read(folder: Path, content: str | bytes, **options: object) -> list[Passage]:
    path = folder / "corpus.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_corpus(path, options=ReadOptions(**options)))  # type: ignore[arg-type]


def test_dprs_quoting_is_undone(tmp_path: Path) -> None:
    """Left quoted, every passage of psgs_w100 would begin with a quotation mark."""
    content = HEADER + '1\t"""Aaron"" is a prophet"\tAaron\n2\tplain\t"a ""title"""\n3\t"said"\t\n'
    assert read(tmp_path, content) == [
        Passage("1", '"Aaron" is a prophet', "Aaron"),
        Passage("2", "plain", 'a "title"'),
        Passage("3", "said", ""),
    ]


def test_an_unbalanced_quote_swallows_no_row(tmp_path: Path) -> None:
    """fault 13: Python's csv and Arrow's keep 1 of these 4 rows, silently; the control shows it."""
    content = HEADER + '1\t"open and never closed\tA\n2\ttwo\tB\n3\tsix 5" disks\tC\n4\tfour\t"D\n'
    passages = read(tmp_path, content)
    assert passages == [
        Passage("1", '"open and never closed', "A"),
        Passage("2", "two", "B"),
        Passage("3", 'six 5" disks', "C"),
        Passage("4", "four", '"D'),
    ]
    assert len(list(csv.reader(io.StringIO(content), delimiter="\t"))) < 1 + 4


@pytest.mark.parametrize("field", ['"', '""', '"""', '"a" and "b"', 'a "b"', '"a"b"', '""a""'])
def test_a_field_that_is_not_wholly_quoted_stays_as_it_is(tmp_path: Path, field: str) -> None:
    """`"a" and "b"` begins and ends with a quote; without them it would read `a" and "b`."""
    wanted = "" if field == '""' else field
    assert read(tmp_path, HEADER + f"1\t{field}\tT\n", empty="keep")[0].text == wanted


def test_a_tab_inside_a_quoted_field_is_text(tmp_path: Path) -> None:
    """A csv writer quotes such a field; split at every tab the row has four columns."""
    assert read(tmp_path, HEADER + '1\t"a\tb"\tT\n') == [Passage("1", "a\tb", "T")]
    # the right number of columns wins: these quotes belong to the text and to the title
    assert read(tmp_path, HEADER + '1\t"a\tb"\n') == [Passage("1", '"a', 'b"')]


def test_a_quoted_line_end_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """Joining lines is what lets an unbalanced quote swallow rows: such a file must be loud, not guessed at."""
    with pytest.raises(FormatError, match=r"corpus\.tsv:2: found 2 columns, wanted 3 .*as JSONL"):
        read(tmp_path, HEADER + '1\t"first line\nsecond line"\tT\n')


@pytest.mark.parametrize("line", ["1", "1\ttext", "1\ttext\ttitle\textra"])
def test_a_wrong_number_of_columns_is_an_error_with_its_line(tmp_path: Path, line: str) -> None:
    """fault 12: a shifted column would put titles into texts for the rest of the file."""
    found = line.count("\t") + 1
    with pytest.raises(FormatError, match=rf"corpus\.tsv:3: found {found} columns, wanted 3"):
        read(tmp_path, f"{HEADER}0\ttext\ttitle\n{line}\n")


def test_columns_are_found_by_the_header_in_any_order(tmp_path: Path) -> None:
    """BEIR-like tables have the title before the text; by position they would be exchanged."""
    content = 'title\t"_id"\tscore\tcontents\nT\t7\t0.5\tsome text\n'
    assert read(tmp_path, content) == [Passage("7", "some text", "T")]


def test_without_a_header_the_columns_are_dprs(tmp_path: Path) -> None:
    """MS MARCO's collection.tsv has none: its first passage must not be taken for names."""
    assert read(tmp_path, "0\tfirst\n1\tsecond\n") == [Passage("0", "first"), Passage("1", "second")]
    assert read(tmp_path, "0\tfirst\tT\n") == [Passage("0", "first", "T")]
    with pytest.raises(FormatError, match="found 4 columns and no header"):
        read(tmp_path, "0\ta\tb\tc\n")
    with pytest.raises(FormatError, match=r"the header has no column of text.*found id, name"):
        read(tmp_path, "id\tname\n1\tx\n")


def test_crlf_byte_order_mark_and_blank_lines_are_no_text(tmp_path: Path) -> None:
    """A title that ends in a carriage return equals no other title; a mark before `id` hides the header."""
    content = b"\xef\xbb\xbfid\ttext\ttitle\r\n1\ta\tT\r\n\r\n2\tb\tU\r\n"
    assert read(tmp_path, content) == [Passage("1", "a", "T"), Passage("2", "b", "U")]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    """str.splitlines also splits at U+2028, U+0085 and form feeds, which stand in web text."""
    text = "a\u2028b\x85c\x0cd\re"
    assert read(tmp_path, HEADER + f"1\t{text}\tT\n") == [Passage("1", text, "T")]


def test_invalid_utf8_is_the_fault_of_its_row(tmp_path: Path) -> None:
    """fault 16: errors="ignore" would change the text silently; the whole file need not be lost either."""
    content = HEADER.encode() + b"1\ta\tT\n2\tb\xff\tT\n3\tc\tT\n"
    with pytest.raises(FormatError, match=r"corpus\.tsv:3: not UTF-8: byte 0xff at byte 4 of the line"):
        read(tmp_path, content)
    assert [passage.id for passage in read(tmp_path, content, on_error="skip")] == ["1", "3"]


def test_nul_bytes_are_replaced_and_a_field_of_a_megabyte_is_read(tmp_path: Path) -> None:
    """csv stops at a NUL (`line contains NUL`) and at 131,072 characters."""
    path = tmp_path / "corpus.tsv"
    path.write_text(HEADER + "1\ta\0b\tT\n2\t" + "x" * (1 << 20) + "\tT\n")
    report = ReadReport()
    first, second = read_corpus(path, report=report)
    assert (first.text, len(second.text), report.replaced) == ("a\ufffdb", 1 << 20, 1)


def test_a_row_of_nothing_but_tabs_has_no_id(tmp_path: Path) -> None:
    """Taken for a blank line it would vanish without being counted."""
    with pytest.raises(FormatError, match=r":2: the id is empty"):
        read(tmp_path, HEADER + "\t\t\n")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """An index of no passages answers nothing, silently."""
    with pytest.raises(InputError, match="is empty"):
        read(tmp_path, "")
