"""From the named fields of a record to a passage or a document: the one place that knows what formats call them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ragkit.corpus.sources.lines import decode
from ragkit.corpus.sources.rows import BadRow
from ragkit.types import Document, Passage

ID_FIELDS = ("id", "_id", "docid", "doc_id", "passage_id", "pid", "wikipedia_id")
TEXT_FIELDS = ("text", "contents", "document_text", "passage", "content")
TITLE_FIELDS = ("title", "wikipedia_title")
FIELDS = (*ID_FIELDS, *TEXT_FIELDS, *TITLE_FIELDS, "section")
_QUESTION_FIELDS = {
    "question", "questions", "query", "query_text", "answers", "answer", "golden_answers", "positive_ctxs", "ctxs",
    "hard_negative_ctxs", "positive_passages", "positive_document_ids", "input", "output", "claim", "qas", "Question",
    "data", "Data",
}  # fmt: skip

_BULLET = re.compile(r"^BULLET::::-\s*")


def question_fields(names: Iterable[str]) -> list[str]:
    """The names that show a record to be a question and not a passage; none if the record has an id and a text."""
    names = set(names)
    if names.intersection(ID_FIELDS) and names.intersection(TEXT_FIELDS):
        return []
    return sorted(names & _QUESTION_FIELDS)


class _Fault(ValueError):
    """Why a record is no passage."""


def to_passage(fields: Mapping[str, Any]) -> Passage | Document | BadRow:
    r"""The passage of a record: JSONL, BEIR, Atlas, Tevatron, FlashRAG, KILT; KILT's list of paragraphs is a document.

    Atlas' section joins the title (``title: section``, as its loader does). Where there is no title, ``contents``
    of several lines is FlashRAG's ``title\ntext``.
    """
    try:
        return _to_passage(fields)
    except _Fault as fault:
        return BadRow(str(fault))


def _to_passage(fields: Mapping[str, Any]) -> Passage | Document:
    id_name, text_name = _first(ID_FIELDS, fields), _first(TEXT_FIELDS, fields)
    passage_id, value = _id(fields[id_name], name=id_name), fields[text_name]
    title_name = _first(TITLE_FIELDS, fields, default="title")
    title, section = _text(fields.get(title_name), name=title_name), _text(fields.get("section"), name="section")
    if section:
        title = f"{title}: {section}"
    if isinstance(value, list):
        return _kilt_document(passage_id, value, title=title)
    if value is None:
        raise _Fault(f"{text_name!r} is null")
    text = _text(value, name=text_name)
    if text_name == "contents" and not title and "\n" in text:
        first, _, text = text.partition("\n")
        title = unquote(first)
    return Passage(id=passage_id, text=text, title=title)


def _kilt_document(document_id: str, paragraphs: list[Any], *, title: str) -> Document:
    """KILT's knowledge source: the title again, ``Section::::NAME.`` lines and ``BULLET::::- `` marks are not text."""
    texts = [_text(paragraph, name="text").strip() for paragraph in paragraphs]
    if texts and texts[0] == title:
        texts = texts[1:]
    kept = [_BULLET.sub("", text) for text in texts if not text.startswith("Section::::")]
    return Document(id=document_id, text="\n".join(text for text in kept if text), title=title)


def _first(names: Sequence[str], fields: Mapping[str, Any], *, default: str | None = None) -> str:
    for name in names:
        if name in fields:
            return name
    if default is None:
        raise _Fault(f"no field of {', '.join(names)} (found {', '.join(map(repr, fields)) or 'none'})")
    return default


def _id(value: Any, *, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, bytes, int)):
        raise _Fault(f"{name!r} is {_describe(value)}, wanted a string or a whole number")
    return str(value) if isinstance(value, int) else _text(value, name=name)


def _text(value: Any, *, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = decode(value)
        if isinstance(value, BadRow):
            raise _Fault(f"{name!r} is {value.reason}")
    if not isinstance(value, str):
        raise _Fault(f"{name!r} is {_describe(value)}, wanted a string")
    return value


def _describe(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"


def unquote(field: str) -> str:
    """A field without its csv quotes if it is wholly one quoted field (inner quotes doubled); else as it is.

    >>> unquote('"a ""b"" c"'), unquote('"a" and "b"'), unquote('"a')
    ('a "b" c', '"a" and "b"', '"a')
    """
    if len(field) >= 2 and field[0] == field[-1] == '"':  # noqa: PLR2004  two quotes
        inner = field[1:-1]
        if '"' not in inner:
            return inner
        if '"' not in inner.replace('""', ""):
            return inner.replace('""', '"')
    return field
