"""Where an answer stands in a text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragkit.reader.places import answer_places


def _found(text: str, *answers: str) -> list[str]:
    return [text[begin:end] for begin, end in answer_places(text, answers)]


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("They won 23–16 at home.", "23–16", ["23–16"]),
        ("They won 23 – 16 at home.", "23–16", ["23 – 16"]),
        ("Wilhelm Conrad Röntgen won.", "röntgen", ["Röntgen"]),
        ("Wilhelm Conrad Ro\u0308ntgen won.", "Röntgen", ["Ro\u0308ntgen"]),
        ("HAMLET, Hamlet and hamlets", "hamlet", ["HAMLET", "Hamlet"]),
        ("by William\n Shakespeare.", "william shakespeare", ["William\n Shakespeare"]),
        ("It cost $5.50 then", "$5.50", ["$5.50"]),
        ("東京 is a city", "東京", ["東京"]),
        ("서울 is a city", "서울", ["서울"]),
        ("It is in 1901.", "190", []),
    ],
)
def test_an_answer_is_found_as_the_text_writes_it(text: str, answer: str, found: list[str]):
    assert _found(text, answer) == found


def test_articles_and_punctuation_matter_only_if_nothing_else_is_found():
    assert _found("Played at Levi's Stadium, there.", "Levis Stadium") == ["Levi's Stadium"]
    assert _found("She sang with Beatles (a band).", "The Beatles") == ["Beatles"]
    assert _found("the U.S. and the US", "US") == ["US"]  # found as it is: "U.S." is not searched for


def test_an_answer_without_a_token_stands_nowhere():
    """Guards against the empty list of tokens that is part of every list."""
    assert _found("some text", "", "  ", "the", "\u200b") == []


def test_all_answers_and_all_their_places_come_in_order():
    assert _found("b a c a b", "b", "c") == ["b", "c", "b"]


def test_every_gold_passage_of_natural_questions_has_a_place(data_dir: Path):
    """Guards against spans silently lost: each such question would be dropped from training."""
    lines = (data_dir / "nq.train.jsonl").read_text(encoding="utf-8").split("\n")
    records = [json.loads(line) for line in lines if line]
    lost = [
        record["answers"]
        for record in records
        if not any(answer_places(passage["text"], record["answers"]) for passage in record["positive_ctxs"])
    ]
    assert len(lost) <= 0.01 * len(records), lost[:10]
