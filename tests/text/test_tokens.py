"""ragkit.text.tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ragkit.errors import ModelNotFound
from ragkit.text.tokens import clean_text, load_tokenizer, pad


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain", "plain"),
        ("caf\u00e9 \U0001f5fc", "caf\u00e9 \U0001f5fc"),
        ("a\0b", "ab"),
        ("\ud800", "\ufffd"),
        ("x\udfffy", "x\ufffdy"),
        ("\ud83d\uddfc", "\U0001f5fc"),
        ("\ud83d\uddfc\ud83d", "\U0001f5fc\ufffd"),
    ],
)
def test_only_what_a_tokenizer_cannot_read_is_changed(text: str, clean: str):
    """A JSON file may hold half a surrogate pair; the tokenizer answers with a TypeError about something else."""
    assert clean_text(text) == clean
    clean_text(text).encode("utf-8")


def test_padding_stands_on_the_side_asked_for():
    """Causal models read the last position."""
    right = pad([[5, 6], [7]], pad_id=0)
    assert right.ids.tolist() == [[5, 6], [7, 0]]
    assert right.mask.tolist() == [[1, 1], [1, 0]]
    left = pad([[5, 6], [7]], pad_id=9, side="left")
    assert left.ids.tolist() == [[5, 6], [9, 7]]
    assert left.mask.tolist() == [[1, 1], [0, 1]]


def test_no_texts_make_an_empty_batch():
    """The end of a corpus may leave none."""
    assert pad([], pad_id=0).ids.shape == (0, 1)
    assert pad([[]], pad_id=0).ids.tolist() == [[0]]
    assert pad([[1]], pad_id=0, multiple=8).ids.shape == (1, 8)


def test_a_batch_moves_as_a_whole():
    """Ids on one device and mask on another fail in the first layer."""
    moved = pad([[1]], pad_id=0).to(torch.device("meta"))
    assert moved.ids.is_meta
    assert moved.mask.is_meta


def test_a_folder_without_tokenizer_says_so(tmp_path: Path):
    """The message of transformers speaks of the hub."""
    with pytest.raises(ModelNotFound, match="no tokenizer"):
        load_tokenizer(str(tmp_path))
