"""MediaWiki XML dumps (``pages-articles.xml``, plain or ``.bz2``): articles as plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from xml.etree import ElementTree

from ragkit.corpus.sources.lines import DAMAGED, open_binary
from ragkit.corpus.sources.rows import Row
from ragkit.corpus.sources.wikitext import plain_text
from ragkit.errors import FormatError
from ragkit.types import Document

_REDIRECT = re.compile(r"^\s*#\s*redirect", re.IGNORECASE)
_MEDIA_SPACES = {"6", "14"}  # keys of the file and the category namespace in every wiki
_ENGLISH = frozenset({"file", "image", "category"})


def read_mediawiki(path: Path) -> Iterator[Row]:
    """A document for each article: pages of the main namespace that are no redirects; ``line`` counts the pages.

    The id is the page id. The dump's own names of its file and category namespaces are respected.
    """
    number = 0
    hidden = set(_ENGLISH)
    try:
        with open_binary(path) as file:
            for element in _elements(file):
                tag = _local(element.tag)
                if tag == "namespace" and element.get("key") in _MEDIA_SPACES:
                    hidden.add((element.text or "").strip().lower())
                elif tag == "page":
                    number += 1
                    document = _article(element, hidden=frozenset(hidden))
                    if document is not None:
                        yield Row(path, number, document)
    except ElementTree.ParseError as error:
        raise FormatError(path, error.position[0], f"the XML is damaged after {number} pages ({error})") from error
    except DAMAGED as error:
        raise FormatError(path, None, f"the file cannot be read past page {number} ({error})") from error


def _elements(file: BufferedIOBase) -> Iterator[ElementTree.Element]:
    """Finished namespaces and pages; each page leaves memory when the next is asked for."""
    events = ElementTree.iterparse(file, events=("start", "end"))
    _, root = next(events)
    for event, element in events:
        if event == "end" and _local(element.tag) in ("namespace", "page"):
            yield element
            if _local(element.tag) == "page":
                root.clear()


def _article(page: ElementTree.Element, *, hidden: frozenset[str]) -> Document | None:
    found = {_local(child.tag): child for child in page}
    namespace, title, page_id = (_text(found.get(name)) for name in ("ns", "title", "id"))
    if namespace not in ("0", "") or "redirect" in found or "revision" not in found:
        return None
    revision = {_local(child.tag): child for child in found["revision"]}
    markup, model = _text(revision.get("text")), _text(revision.get("model"))
    if model not in ("", "wikitext") or _REDIRECT.match(markup):
        return None
    return Document(id=page_id, text=plain_text(markup, hidden=hidden), title=title)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _text(element: ElementTree.Element | None) -> str:
    return (element.text or "") if element is not None else ""
