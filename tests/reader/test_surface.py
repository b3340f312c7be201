"""A reader whose tokenizer lowers case and parts signs answers in its passage's own letters."""

from __future__ import annotations

import pytest

from ragkit.reader.surface import as_written, keeps_text

from .tiny_models import byte_tokenizer, make_model, unigram_tokenizer

TEXTS = ["The score was 23-16, by J.R.R. Tolkien's Team.", "In Romeo, Rome fell on 5 May (1453)."]


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("23 - 16", "23-16"),
        ("j . r . r . tolkien ' s team", "J.R.R. Tolkien's Team"),
        ("rome", "Rome"),  # not the beginning of Romeo
        ("may ( 1453 )", "May (1453)"),
        ("florence", "florence"),
        ("", ""),
        ("( (", "( ("),
    ],
)
def test_an_answer_is_given_as_its_passage_writes_it(written: str, wanted: str):
    assert as_written(written, TEXTS) == wanted


def test_only_tokenizers_that_lose_text_need_it():
    assert not keeps_text(make_model("bert")[1])
    assert keeps_text(byte_tokenizer())
    assert keeps_text(unigram_tokenizer())
