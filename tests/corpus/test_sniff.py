"""Formats are told by content, and what is no corpus is named for what it is."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path

import pytest

from ragkit.corpus import SOURCES, read_corpus, sniff_corpus, write_store
from ragkit.errors import FormatError, InputError
from ragkit.types import Passage

TSV = "id\ttext\ttitle\n1\tsome text\ta title\n"
JSONL = '{"id": "1", "text": "some text", "title": "a title"}\n'
XML = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10"></mediawiki>'
WANTED = [Passage("1", "some text", "a title")]


@pytest.mark.parametrize(
    ("content", "name"),
    [(TSV, "tsv"), (JSONL, "jsonl"), (XML, "mediawiki"), ("\ufeff" + TSV, "tsv"), ("\ufeff" + JSONL, "jsonl")],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_the_name_of_a_file_does_not_matter(tmp_path: Path, content: str, name: str, pack: object) -> None:
    """Downloads are often renamed; a reader chosen by the name would fail at the first row."""
    path = tmp_path / "corpus.dat"
    path.write_bytes(pack(content.encode()))  # type: ignore[operator]
    assert sniff_corpus(path) == name
    if name != "mediawiki":
        assert list(read_corpus(path)) == WANTED


@pytest.mark.parametrize("content", ["<h1>Title</h1> text", "[![badge](x)](y) text", "{curly} text"])
def test_a_markdown_file_may_begin_as_it_likes(tmp_path: Path, content: str) -> None:
    """A README with a badge is no JSON list."""
    path = tmp_path / "README.md"
    path.write_text(content)
    assert sniff_corpus(path) == "text"


def test_folders_are_told_apart(tmp_path: Path) -> None:
    """A BEIR folder holds JSON lines of questions too: its corpus.jsonl must win over a folder of parts."""
    beir, notes, parts, store, index = (tmp_path / name for name in ("beir", "notes", "parts", "store", "index"))
    for folder in (beir, notes, parts):
        folder.mkdir()
    (beir / "corpus.jsonl").write_text(JSONL)
    (beir / "queries.jsonl").write_text('{"_id": "q", "text": "a question"}\n')
    (notes / "one.md").write_text("# One\nsome text")
    (parts / "b.jsonl").write_text(JSONL.replace('"1"', '"2"'))
    (parts / "a.tsv").write_text(TSV)
    write_store(WANTED, store)
    write_store(WANTED, index / "corpus")
    names = {path.name: sniff_corpus(path) for path in (beir, notes, parts, store, index)}
    assert names == {"beir": "beir", "notes": "text", "parts": "parts", "store": "store", "index": "store"}
    assert [passage.id for passage in read_corpus(parts)] == ["1", "2"]
    assert list(read_corpus(index)) == list(read_corpus(beir)) == WANTED


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", json.dumps({"question": "who", "answers": ["x"], "positive_ctxs": []}), "a file of questions"),
        ("a.json", json.dumps([{"question": "who", "positive_ctxs": []}]), "a JSON list of questions"),
        ("a.json", json.dumps([{"id": "1"}]), "a JSON list; passages are read as JSON lines"),
        ("a.json", json.dumps({"data": [{"paragraphs": [{"qas": []}]}]}), "a file of questions"),
        ("a.json", json.dumps({"data": [{"qas": []}]}, indent=1), "one JSON document over several lines of questions"),
        ("a.txt", "who wrote hamlet\t['Shakespeare']\n", "a file of questions and answers"),
        ("qrels.tsv", "query-id\tcorpus-id\tscore\n1\t2\t1\n", "relevance judgements"),
        ("a.html", "<html></html>", "XML or HTML but no MediaWiki dump"),
        ("a.tsv", "", "is empty"),
        ("a.bin", "no tabs here", r"begins with 'no tabs here'. Known are: tsv \("),
    ],
)
def test_what_is_no_corpus_is_named_for_what_it_is(tmp_path: Path, name: str, content: str, message: str) -> None:
    """`corpus=nq.train.json` is the commonest mistake; `no field id` does not say so."""
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_corpus(path)


def test_what_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    """A generator that opens its file at the first row lets an hour of model loading go by first."""
    with pytest.raises(InputError, match="no file or folder"):
        read_corpus(tmp_path / "absent.tsv")
    with pytest.raises(InputError, match="holds no corpus that is known"):
        read_corpus(tmp_path)


@pytest.mark.parametrize(("head", "remedy"), [(b"\x28\xb5\x2f\xfd", "zstd -d"), (b"\xff\xfei\0", "iconv")])
def test_encodings_that_are_not_read_come_with_the_command_that_converts(
    tmp_path: Path, head: bytes, remedy: str
) -> None:
    """Both would otherwise be `not UTF-8` at byte 1."""
    path = tmp_path / "corpus.tsv"
    path.write_bytes(head + b"some bytes")
    with pytest.raises(InputError, match=remedy):
        read_corpus(path)


def test_a_damaged_archive_is_a_fault_of_the_file(tmp_path: Path) -> None:
    """gzip raises an OSError of its own, which would show as a traceback."""
    path = tmp_path / "corpus.tsv.gz"
    path.write_bytes(b"\x1f\x8b" + b"\0" * 40)
    with pytest.raises(FormatError, match="cannot be read"):
        read_corpus(path)


def test_every_format_of_the_table_is_described() -> None:
    """The table is what error messages and the documentation list."""
    assert all(source.description for source in SOURCES.values())
