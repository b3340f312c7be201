"""Lines of files, plain or compressed."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pytest

from ragkit.corpus.sources.lines import open_binary, read_lines
from ragkit.corpus.sources.rows import BadRow
from ragkit.errors import FormatError


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_compression_is_told_by_the_first_bytes(tmp_path: Path, pack: object) -> None:
    """A `.gz` that a browser has unpacked keeps its name."""
    path = tmp_path / "file.gz"
    path.write_bytes(pack(b"one\ntwo"))  # type: ignore[operator]
    assert list(read_lines(path)) == [(1, "one"), (2, "two")]
    with open_binary(path) as file:
        assert file.read() == b"one\ntwo"


def test_several_bzip2_streams_in_one_file_are_all_read(tmp_path: Path) -> None:
    """Wikipedia's multistream dumps are such files; the first stream alone is a few hundred bytes."""
    path = tmp_path / "file.bz2"
    path.write_bytes(bz2.compress(b"one\n") + bz2.compress(b"two\n"))
    assert [line for _, line in read_lines(path)] == ["one", "two"]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_an_archive_cut_short_is_an_error_and_not_the_end(tmp_path: Path, pack: object) -> None:
    """Half a download must not pass for a small corpus."""
    path = tmp_path / "file"
    packed = pack(b"".join(b"line %d\n" % number for number in range(100_000)))  # type: ignore[operator]
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(FormatError, match=r"file:\d+: the file cannot be read on from here"):
        list(read_lines(path))


def test_lines_keep_their_physical_numbers_over_blank_and_broken_ones(tmp_path: Path) -> None:
    """The number is what a text editor shows: counting only the good lines sends the user to the wrong one."""
    path = tmp_path / "file"
    path.write_bytes(b"one\n\n  \n\xe9\nfive")
    numbered = list(read_lines(path))
    assert [number for number, _ in numbered] == [1, 4, 5]
    assert numbered[1][1] == BadRow("not UTF-8: byte 0xe9 at byte 1 of the line")
