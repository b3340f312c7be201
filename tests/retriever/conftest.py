"""Tiny encoders with random weights, saved as transformers saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ragkit.types import Passage

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789.,:?!'"]
VOCABULARY = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), "paris", "france", "the", "of", "capital"]


def _tokenizer(folder: Path) -> Any:
    from transformers import BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64)


def _sizes(**changes: Any) -> dict[str, Any]:
    sizes = {"vocab_size": len(VOCABULARY), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return sizes | {"intermediate_size": 64, "max_position_embeddings": 64} | changes


@pytest.fixture(scope="session")
def save_bert(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A plain BertModel folder for a seed."""

    def save(seed: int) -> Path:
        from transformers import BertConfig, BertModel

        folder = tmp_path_factory.mktemp(f"bert{seed}")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            BertModel(BertConfig(**_sizes())).save_pretrained(folder)
        _tokenizer(folder).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def bert(save_bert: Callable[[int], Path]) -> str:
    """A plain BertModel folder."""
    return str(save_bert(0))


@pytest.fixture(scope="session")
def dpr(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The folders of a DPRQuestionEncoder and of a DPRContextEncoder, as on the hub."""
    from transformers import DPRConfig, DPRContextEncoder, DPRQuestionEncoder

    folders = []
    for seed, kind in enumerate((DPRQuestionEncoder, DPRContextEncoder)):
        folder = tmp_path_factory.mktemp(kind.__name__)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            kind(DPRConfig(**_sizes())).save_pretrained(folder)
        _tokenizer(folder).save_pretrained(folder)
        folders.append(str(folder))
    return folders[0], folders[1]


@pytest.fixture
def passages() -> list[Passage]:
    """Passages of many lengths, one without a title."""
    words = ["the", "capital", "of", "france", "is", "paris", ",", "a", "city", "of", "2", "million", "people"]
    return [
        Passage(id=f"p{n}", text=" ".join(words[: 1 + n % len(words)]), title="" if n == 3 else f"paris {n}")
        for n in range(12)
    ]
