"""MediaWiki XML dumps."""

from __future__ import annotations

import bz2
import hashlib
import re
from pathlib import Path

import pytest

from ragkit.corpus import ReadReport, read_corpus
from ragkit.corpus.sources.mediawiki import read_mediawiki
from ragkit.errors import FormatError
from ragkit.types import Document


def page(number: int, text: str, *, title: str = "T", ns: int = 0, extra: str = "", model: str = "wikitext") -> str:
    revision = f"<revision><id>9{number}</id><model>{model}</model><text xml:space='preserve'>{text}</text></revision>"
    return f"<page><title>{title}</title><ns>{ns}</ns><id>{number}</id>{extra}{revision}</page>\n"


def dump(folder: Path, *pages: str, version: str = "0.11") -> Path:
    spaces = '<namespaces><namespace key="0" /><namespace key="6">Datei</namespace></namespaces>'
    content = f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-{version}/"><siteinfo>{spaces}</siteinfo>'
    path = folder / "dump.xml.bz2"
    path.write_bytes(bz2.compress((content + "".join(pages) + "</mediawiki>").encode()))
    return path


@pytest.mark.parametrize("version", ["0.10", "0.11"])
def test_articles_are_documents_and_everything_else_is_left_out(tmp_path: Path, version: str) -> None:
    """Redirects and talk pages are most of a dump, and no answer is in them."""
    path = dump(
        tmp_path,
        page(1, "#REDIRECT [[Other]]"),
        page(2, "text", extra="<redirect title='Other' />"),
        page(3, "talk", ns=1),
        page(4, "body { color: red }", model="css"),
        page(5, "An ''article'' &amp;amp; more [[Datei:a.jpg|mini|Bild]]", title="A &amp; B"),
        version=version,
    )
    rows = list(read_mediawiki(path))
    assert [row.value for row in rows] == [Document("5", "An article & more", "A & B")]
    assert rows[0].line == 5


def test_passages_never_cross_articles(tmp_path: Path) -> None:
    """A passage of two articles has the title of one and the answer of the other."""
    path = dump(tmp_path, page(1, "one " * 150, title="One"), page(2, "two " * 150, title="Two"))
    passages = list(read_corpus(path))
    assert [(p.id, p.title, len(p.text.split())) for p in passages] == [
        ("1-0", "One", 100), ("1-1", "One", 50), ("2-0", "Two", 100), ("2-1", "Two", 50),
    ]  # fmt: skip
    assert all(set(p.text.split()) == {p.title.lower()} for p in passages)


def test_a_damaged_dump_is_an_error_with_its_line_and_not_a_shorter_corpus(tmp_path: Path) -> None:
    """A download cut short is the commonest fault of a file of 20 GB."""
    path = tmp_path / "dump.xml"
    path.write_text("<mediawiki>\n" + page(1, "text") + "<page><title>")
    with pytest.raises(FormatError, match=r"dump\.xml:3: the XML is damaged after 1 pages"):
        list(read_corpus(path))
    packed = dump(
        tmp_path, *(page(number, hashlib.sha512(b"%d" % number).hexdigest() * 8, ns=1) for number in range(8000))
    )
    packed.write_bytes(packed.read_bytes()[:-2000])
    with pytest.raises(FormatError, match=r"dump\.xml\.bz2: the file cannot be read past page [1-9]"):
        list(read_corpus(packed))


def test_entities_that_multiply_are_refused(tmp_path: Path) -> None:
    """A kilobyte of such XML unfolds to gigabytes in a parser without limits."""
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(12))
    path = tmp_path / "dump.xml"
    head = f'<?xml version="1.0"?><!DOCTYPE mediawiki [<!ENTITY e0 "0123456789">{entities}]>'
    path.write_text(head + "<mediawiki>" + page(1, "&e12;") + "</mediawiki>")
    with pytest.raises(FormatError, match="the XML is damaged after 0 pages"):
        list(read_corpus(path))


def test_memory_is_given_back_page_by_page(tmp_path: Path) -> None:
    """iterparse keeps every element it has built unless the root is emptied: 20 GB of XML would be 100 GB of memory."""
    import tracemalloc  # noqa: PLC0415

    peaks = []
    for count in (20, 200):
        path = dump(tmp_path, *(page(number, "word " * 2000, ns=1) for number in range(count)))
        tracemalloc.start()
        assert list(read_mediawiki(path)) == []
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 180 * 10_000 / 4


def test_a_real_dump_comes_out_clean(data_dir: Path) -> None:
    """106 articles as Wikipedia has them, unbalanced markup included: no template, table, reference or file is left."""
    path = data_dir / "official" / "enwiki-sample.xml.bz2"
    if not path.is_file():
        pytest.skip(f"no {path}")
    report = ReadReport()
    passages = list(read_corpus(path, report=report))
    assert report.rows == 106
    assert report.read == len(passages) > 4000
    leftover = re.compile(r"\{\{|\}\}|\[\[|\]\]|<ref|</|\{\||\|\}|\bFile:|\bCategory:|''|&nbsp;|\bthumb\||__[A-Z]")
    assert [found.group() for p in passages if (found := leftover.search(p.text))] == []
    assert all(len(p.text.split()) <= 100 for p in passages)
    assert passages[0].title == "Anarchism"
    assert passages[0].text.startswith("Anarchism is a political philosophy that advocates self-governed societies")
