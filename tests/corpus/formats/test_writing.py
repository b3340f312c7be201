from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ragkit.corpus.formats import write_examples
from ragkit.corpus.formats.writing import atomically, text_file
from ragkit.errors import InputError
from ragkit.types import Example


def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def fail() -> None:
        with atomically(target, overwrite=True) as aside:
            aside.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_a_folder_is_never_replaced(tmp_path: Path) -> None:
    """It may hold more than what we would write."""
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="is a folder that is there already"):
        write_examples([Example("1", "q", ())], tmp_path / "out", format="beir", overwrite=True)


def test_a_packed_file_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        with text_file(tmp_path / name) as file:
            file.write("é\n")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()).decode() == "é\n"


def test_an_unwritable_format_lists_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write questions as 'mss'; choose from .*'squad'"):
        write_examples([], tmp_path / "out", format="mss")


def test_a_question_that_the_format_cannot_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="squad cannot hold the question 'q7'"):
        write_examples([Example("q7", "why", ())], tmp_path / "out", format="squad")
    assert not list(tmp_path.iterdir())
