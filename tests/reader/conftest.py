"""A tiny extractive reader: BERT's shape, two layers, random weights, and a word-piece tokenizer of a few words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from ragkit.reader import ExtractiveReader, InputOptions

TEXT = """who wrote hamlet where is rome when did the play by shake ##spe ##are william was in italy ron ##t ##gen
a city old paris france sep [ ] ' . , – - 1 2 ##1 ##2 ##3 23 16 poet score 1603"""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    words = TEXT.split()
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *(x for x in letters if x not in words)]
    pieces += [f"##{letter}" for letter in letters]
    model = Tokenizer(WordPiece({piece: row for row, piece in enumerate(pieces)}, unk_token="[UNK]"))
    model.normalizer = BertNormalizer(lowercase=True)
    model.pre_tokenizer = BertPreTokenizer()
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
    )


def tiny_config(tokenizer: PreTrainedTokenizerFast) -> BertConfig:
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.5,  # large enough that different inputs give clearly different logits
    )


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain encoder without any head, as transformers saves it."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        BertModel(tiny_config(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def reader(encoder_folder: Path) -> ExtractiveReader:
    """A reader with fresh heads, in float32 so that batches of any shape agree."""
    options = InputOptions(max_length=48, max_question=10, max_title=6)
    return ExtractiveReader.from_pretrained(str(encoder_folder), options=options, device="cpu", dtype="float32")
