"""Plain text from MediaWiki markup, by mwparserfromhell."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Any

import mwparserfromhell
from mwparserfromhell.nodes import Argument, Comment, ExternalLink, Heading, HTMLEntity, Tag, Template, Text, Wikilink

_DROPPED_TAGS = frozenset(
    {"ref", "references", "table", "gallery", "math", "chem", "timeline", "score", "syntaxhighlight", "source",
     "imagemap", "graph", "mapframe", "maplink", "style", "templatestyles", "hiero", "inputbox", "section", "indicator"}
)  # fmt: skip
_BREAKS = frozenset({"br", "li", "dt", "dd", "p", "div", "tr", "blockquote"})
_DROPPED_SECTIONS = frozenset(
    {"references", "external links", "see also", "further reading", "notes", "bibliography", "sources", "citations",
     "footnotes", "notes and references", "gallery"}
)  # fmt: skip
_SPACES, _LINES = re.compile(r"[ \t\u00a0]+"), re.compile(r"\s*\n\s*")
_EMPTY_BRACKETS = re.compile(r"\(\s*[,;:]?\s*\)|\[\s*\]")
_LEADING = re.compile(r"\(\s*[,;]\s*")
_BEFORE_POINT = re.compile(r" +([,.;:)])")
_POSSESSIVE, _STYLE = re.compile(r"(?<=\w)'''(?=s\b)"), re.compile(r"'{2,}")
_LEFT_REF = re.compile(r"<ref[^<>]*/>|<ref[^<>]*>.*?</ref>", re.DOTALL | re.IGNORECASE)
_LEFT_TABLE = re.compile(r"\{\|.*?\n\|\}", re.DOTALL)
_LEFT_TAG = re.compile(r"</?[a-z]+[^<>\n]*>", re.IGNORECASE)
_SWITCH = re.compile(r"__[A-Z]+__")


def plain_text(markup: str, *, hidden: frozenset[str] = frozenset({"file", "image", "category"})) -> str:
    """The prose of a page, one line a paragraph: no templates, tables, references, files, categories, comments.

    Links give their label. Headings leave a line end. Sections that only list (references, external links, see
    also, ...) are left out.
    ``hidden`` are the lower-case names of the namespaces whose links show no text.
    """
    pieces: list[str] = []
    dropped_level = 0
    # quote marks are left as text: one unbalanced pair of them makes the parser give up on all that stands between
    for node in mwparserfromhell.parse(markup, skip_style_tags=True).nodes:
        if isinstance(node, Heading):
            if not dropped_level or node.level <= dropped_level:
                name = _plain([node], hidden=hidden).strip()
                dropped_level = node.level if name.lower() in _DROPPED_SECTIONS else 0
            pieces.append("\n")
        elif not dropped_level:
            pieces.append(_plain([node], hidden=hidden))
    return _tidy("".join(pieces))


def _plain(nodes: Iterable[Any], *, hidden: frozenset[str]) -> str:
    out: list[str] = []
    for node in nodes:
        if isinstance(node, Text):
            out.append(str(node.value))
        elif isinstance(node, Wikilink):
            out.append(_link(node, hidden=hidden))
        elif isinstance(node, Tag):
            out.append(_tag(node, hidden=hidden))
        elif isinstance(node, HTMLEntity):
            out.append(node.normalize() or "")
        elif isinstance(node, ExternalLink):
            out.append(_plain(node.title.nodes, hidden=hidden) if node.title is not None else "")
        elif isinstance(node, Heading):
            out.append(_plain(node.title.nodes, hidden=hidden))
        elif not isinstance(node, (Template, Comment, Argument)):
            out.append(str(node))
    return "".join(out)


def _link(link: Wikilink, *, hidden: frozenset[str]) -> str:
    target = str(link.title).strip()
    space, colon, _ = target.partition(":")
    if colon and space.strip().lower() in hidden:
        return ""
    if link.text is None:
        return target.removeprefix(":").replace("_", " ")
    return _plain(link.text.nodes, hidden=hidden)


def _tag(tag: Tag, *, hidden: frozenset[str]) -> str:
    name = str(tag.tag).strip().lower()
    if name in _DROPPED_TAGS:
        return ""
    text = _plain(tag.contents.nodes, hidden=hidden) if tag.contents is not None else ""
    return f"\n{text}" if name in _BREAKS else text


def _tidy(text: str) -> str:
    for leftover in (_LEFT_REF, _LEFT_TABLE, _LEFT_TAG, _SWITCH):  # what broken markup keeps from the parser
        text = leftover.sub("", text)
    text = _SPACES.sub(" ", _STYLE.sub("", _POSSESSIVE.sub("'", text)))
    text = html.unescape(text)
    text = _LEADING.sub("(", _EMPTY_BRACKETS.sub("", text))
    text = _BEFORE_POINT.sub(r"\1", _SPACES.sub(" ", text))
    return _LINES.sub("\n", text).strip()
