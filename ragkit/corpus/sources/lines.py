"""Physical lines of a text file, plain or compressed, with their numbers."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path

from ragkit.corpus.sources.rows import BadRow
from ragkit.errors import FormatError, InputError

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_ZSTD = b"\x28\xb5\x2f\xfd"
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)  # what the decompressors raise on a damaged file


def open_binary(path: Path) -> BufferedIOBase:
    """The bytes of a file, decompressed if its first bytes say gzip, bzip2 or xz."""
    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(path, "rb")
    if magic.startswith(b"BZh"):
        return bz2.open(path, "rb")
    if magic.startswith(b"\xfd7zXZ"):
        return lzma.open(path, "rb")
    if magic.startswith(_ZSTD):
        raise InputError(f"{path} is compressed with zstd, which is not read here; decompress it first: zstd -d {path}")
    if magic.startswith(_UTF16):
        raise InputError(f"{path} is UTF-16; convert it first: iconv -f utf-16 -t utf-8 {path} > FILE")
    return path.open("rb")


def read_lines(path: Path) -> Iterator[tuple[int, str | BadRow]]:
    r"""Every line that is not blank, without its ``\n`` or ``\r\n``; only ``\n`` ends a line, whatever quotes say.

    A byte-order mark is dropped. A line that is not UTF-8 is a :class:`BadRow`.
    """
    number = 0
    try:
        with open_binary(path) as file:
            for number, raw in enumerate(file, start=1):  # noqa: B007  named in the message below
                line = raw.removeprefix(_BOM) if number == 1 else raw
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                if line.strip(b" "):
                    yield number, decode(line)
    except DAMAGED as error:
        raise FormatError(path, number + 1, f"the file cannot be read on from here ({error})") from error


def decode(raw: bytes) -> str | BadRow:
    """The text of UTF-8 bytes, or what is wrong with them."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadRow(f"not UTF-8: byte 0x{raw[error.start]:02x} at byte {error.start + 1} of the line")
