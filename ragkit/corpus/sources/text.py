"""Folders of plain text: every ``.txt`` and ``.md`` file is a document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ragkit.corpus.sources.lines import decode, open_binary
from ragkit.corpus.sources.rows import BadRow, Row
from ragkit.types import Document

MARKDOWN = (".md", ".markdown")
SUFFIXES = (".txt", ".text", *MARKDOWN)
_HEADING = re.compile(r"^#[ \t]+(.+?)[ \t]*#*[ \t]*$", re.MULTILINE)


def text_files(path: Path) -> list[Path]:
    """The text files of a folder and of its subfolders in order of name, without hidden ones; or the file itself."""
    if path.is_file():
        return [path]
    files = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    return sorted(file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts))


def read_text(path: Path) -> Iterator[Row]:
    """A document for each file; the id is the path inside the folder, with ``/`` on every system.

    The title is a Markdown file's first heading of the first level, otherwise the file's name without its ending.
    """
    for file in text_files(path):
        with open_binary(file) as opened:
            text = decode(opened.read().removeprefix(b"\xef\xbb\xbf"))
        yield Row(file, None, text if isinstance(text, BadRow) else _document(file, text, root=path))


def _document(file: Path, text: str, *, root: Path) -> Document:
    name = file.name if file == root else file.relative_to(root).as_posix()
    text = text.replace("\r\n", "\n")
    heading = _HEADING.search(text) if file.suffix.lower() in MARKDOWN else None
    title = heading.group(1) if heading else file.stem.replace("_", " ")
    return Document(id=name, text=text, title=title)
