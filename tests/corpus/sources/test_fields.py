"""What formats call the id, the text and the title."""

from __future__ import annotations

import re

import pytest

from ragkit.corpus.sources.fields import question_fields, to_passage
from ragkit.corpus.sources.rows import BadRow
from ragkit.types import Document, Passage


@pytest.mark.parametrize(
    ("record", "passage"),
    [
        ({"_id": "d1", "title": "T", "text": "x", "metadata": {}}, Passage("d1", "x", "T")),  # BEIR
        ({"id": 7, "text": "x"}, Passage("7", "x")),
        ({"id": "a", "title": "T", "section": "S", "text": "x"}, Passage("a", "x", "T: S")),  # Atlas
        ({"id": "a", "title": "T", "section": "", "text": "x"}, Passage("a", "x", "T")),
        ({"id": "a", "title": None, "text": "x"}, Passage("a", "x")),
        ({"id": "a", "contents": '"T"\nx\ny'}, Passage("a", "x\ny", "T")),  # FlashRAG
        ({"id": "a", "contents": "x"}, Passage("a", "x")),
        ({"id": "a", "contents": "x\ny", "title": "T"}, Passage("a", "x\ny", "T")),
        ({"docid": "a", "document_text": "x"}, Passage("a", "x")),  # Tevatron
        ({"docid": "a", "title": "T", "text": "x"}, Passage("a", "x", "T")),
        ({"id": b"a", "text": "é".encode()}, Passage("a", "é")),  # Parquet
    ],
)
def test_every_formats_own_names_are_understood(record: dict[str, object], passage: Passage) -> None:
    """A title that is overlooked costs several points of hit@1, and nothing says so."""
    assert to_passage(record) == passage


def test_kilts_knowledge_source_is_a_document_without_its_marks() -> None:
    """`Section::::` and `BULLET::::-` are no words of Wikipedia, and would be in every passage."""
    text = ["Anarchism\n", "First.\n", "Section::::History.\n", "BULLET::::- A point\n", "\n", "Last.\n"]
    record = {"_id": "12", "wikipedia_id": "12", "wikipedia_title": "Anarchism", "text": text}
    assert to_passage(record) == Document("12", "First.\nA point\nLast.", "Anarchism")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"text": "x"}, r"no field of id, _id, .*\(found 'text'\)"),
        ({}, "found none"),
        ({"id": "a"}, "no field of text, contents"),
        ({"id": None, "text": "x"}, "'id' is NoneType 'None', wanted a string or a whole number"),
        ({"id": True, "text": "x"}, "'id' is bool 'True'"),
        ({"id": 1.5, "text": "x"}, "'id' is float '1.5'"),
        ({"id": "a", "text": None}, "'text' is null"),
        ({"id": "a", "text": {"x": 1}}, "'text' is dict"),
        ({"id": "a", "text": ["x", 3]}, "'text' is int '3'"),
        ({"id": "a", "text": "x", "title": 3}, "'title' is int '3', wanted a string"),
        ({"id": "a", "text": b"\xff"}, "'text' is not UTF-8"),
    ],
)
def test_what_is_missing_or_of_the_wrong_type_is_said(record: dict[str, object], reason: str) -> None:
    """str(None) as an id or a text would be indexed, millions of times over."""
    fault = to_passage(record)
    assert isinstance(fault, BadRow)
    assert re.search(reason, fault.reason)


def test_a_question_is_known_by_its_fields_unless_it_has_an_id_and_a_text() -> None:
    """BEIR's and Atlas' passages may carry fields called `query` or `answer` in their metadata."""
    assert question_fields(["question", "answers", "id"]) == ["answers", "question"]
    assert question_fields(["id", "text", "answer"]) == []
