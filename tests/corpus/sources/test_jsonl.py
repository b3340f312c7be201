"""JSON lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragkit.corpus import ReadOptions, read_corpus
from ragkit.corpus.sources.jsonl import read_beir
from ragkit.errors import FormatError
from ragkit.types import Passage

GOOD = '{"id": "1", "text": "a"}\n'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": "2", "text": "b"', "not JSON: Expecting ',' delimiter at column 24"),
        ("[1, 2]", "found a JSON list, wanted an object"),
        ("null", "found a JSON NoneType"),
        ("[" * 100_000, "not usable JSON"),
        ('{"id": ' + "9" * 5000 + ', "text": "x"}', "not usable JSON"),
        ('{"question": "who", "answers": ["x"]}', r"this is a question, not a passage \(it has answers, question\)"),
    ],
)
def test_a_line_that_is_no_passage_is_named(tmp_path: Path, line: str, reason: str) -> None:
    """fault 12; deep brackets end in a RecursionError and long numbers in a ValueError of Python itself."""
    path = tmp_path / "corpus.jsonl"
    path.write_text(GOOD + line + "\n")
    with pytest.raises(FormatError, match=rf"corpus\.jsonl:2: {reason}"):
        list(read_corpus(path))
    assert list(read_corpus(path, options=ReadOptions(on_error="skip"))) == [Passage("1", "a")]


def test_a_damaged_first_line_is_a_row_like_any_other(tmp_path: Path) -> None:
    """The format is sniffed from it, and must not be lost with it."""
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"id": "0", "te\n' + GOOD)
    assert list(read_corpus(path, options=ReadOptions(on_error="skip"))) == [Passage("1", "a")]


def test_brackets_without_end_in_the_first_line_are_a_row_too(tmp_path: Path) -> None:
    """The sniffer parses that line before any reader does, and Python gives up with a RecursionError."""
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"a":' * 12_000 + "\n" + GOOD)
    with pytest.raises(FormatError, match=":1: not usable JSON"):
        list(read_corpus(path))


def test_line_separators_inside_a_text_end_no_line(tmp_path: Path) -> None:
    """json.dumps with ensure_ascii=False writes U+2028 as it is."""
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"id": "1", "text": "a\u2028b"}\n', encoding="utf-8")
    assert list(read_corpus(path)) == [Passage("1", "a\u2028b")]


def test_beirs_corpus_is_found_plain_or_compressed(tmp_path: Path) -> None:
    """The folder is what BEIR's archives unpack to."""
    (tmp_path / "corpus.jsonl").write_text(GOOD)
    assert [row.value for row in read_beir(tmp_path)] == [Passage("1", "a")]
