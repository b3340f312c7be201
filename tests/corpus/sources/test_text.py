"""Folders of text files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragkit.corpus import read_corpus
from ragkit.corpus.sources.text import read_text
from ragkit.errors import FormatError
from ragkit.types import Document


def test_every_text_file_is_a_document_named_by_its_path(tmp_path: Path) -> None:
    """Ids must not hold the machine's own folders, or two checkouts give two corpora."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "note.md").write_bytes(b"\xef\xbb\xbfIntro\r\n# The Title #\r\nbody")
    (tmp_path / "a_file.txt").write_text("# no heading here")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    assert [row.value for row in read_text(tmp_path)] == [
        Document("a_file.txt", "# no heading here", "a file"),
        Document("b/note.md", "Intro\n# The Title #\nbody", "The Title"),
    ]


def test_a_single_file_is_a_corpus_of_one_document(tmp_path: Path) -> None:
    """A path is accepted wherever a folder is."""
    path = tmp_path / "notes.txt"
    path.write_text("some\nwords")
    assert [(p.id, p.text, p.title) for p in read_corpus(path)] == [("notes.txt-0", "some words", "notes")]


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    """In a folder of thousands the message must say which."""
    (tmp_path / "good.txt").write_text("x")
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(FormatError, match=r"latin\.txt: not UTF-8: byte 0xe9"):
        list(read_corpus(tmp_path))
