"""A small corpus file and a tiny encoder with its own tokenizer: no model hub, no real weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

WORDS = ["red", "blue", "green", "fox", "dog", "river", "stone", "hill", "north", "south", "old", "new", "the", "a"]


def passage_line(number: int) -> str:
    words = [WORDS[(number * 7 + place * 3 + place * number) % len(WORDS)] for place in range(8)]
    return f"p{number}\t{' '.join(words)}\ttitle {number}\n"


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    """60 passages in psgs_w100's format."""
    path = tmp_path / "psgs.tsv"
    path.write_text("id\ttext\ttitle\n" + "".join(passage_line(number) for number in range(60)))
    return path


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer and 16 dimensions with random weights, as transformers saves it."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "title"]))
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=512,
        )
        BertModel(config).save_pretrained(folder)
    return folder
