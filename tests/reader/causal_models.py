"""Tiny decoder-only models of three families, two layers, random weights, with a tokenizer of single bytes."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from ragkit.reader.causal import CausalReader
from ragkit.reader.packing import CausalOptions, Prompt
from ragkit.types import Passage, ScoredPassage

FAMILIES = ("llama", "qwen2", "gpt2")
ROTARY = ("llama", "qwen2", "qwen3", "mistral")
PASSAGES = [
    Passage("1", "Hamlet is an old play by Shakespeare", "Hamlet"),
    Passage("2", "Rome was the old city in Italy"),
    Passage("3", "Paris is in France, the score was 23-16.", "Paris"),
]
QUESTIONS = ["who wrote hamlet", "where is rome in italy", "when"]
ANSWERS = ["shakespeare", "italy", "in 1603"]
SMALL = CausalOptions(max_prompt=420, max_question=40, max_passage=96)
CHAT = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def byte_tokenizer(*, chat: bool = False) -> PreTrainedTokenizerFast:
    """One token a byte, and an end token."""
    vocabulary = {letter: row for row, letter in enumerate(["<|end|>", "<|start|>", *byte_letters()])}
    model = Tokenizer(BPE(vocabulary, []))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model, eos_token="<|end|>", bos_token="<|start|>", pad_token="<|end|>", model_max_length=2048
    )
    if chat:
        tokenizer.chat_template = CHAT
    return tokenizer


def byte_letters() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def make_model(family: str, *, positions: int = 512, seed: int = 3, dim: int = 32) -> PreTrainedModel:
    n_vocab = len(byte_tokenizer())
    shape = {"vocab_size": n_vocab, "max_position_embeddings": positions, "initializer_range": 0.25}
    ends = {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0}
    deep = {"hidden_size": dim, "intermediate_size": 2 * dim, "num_hidden_layers": 2, "num_attention_heads": 4}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if family == "llama":
            return LlamaForCausalLM(LlamaConfig(**shape, **ends, **deep, num_key_value_heads=2))
        if family == "qwen2":
            return Qwen2ForCausalLM(Qwen2Config(**shape, **ends, **deep, num_key_value_heads=2))
        if family == "mistral":
            return MistralForCausalLM(
                MistralConfig(**shape, **ends, **deep, num_key_value_heads=2, sliding_window=None)
            )
        if family == "qwen3":
            return Qwen3ForCausalLM(Qwen3Config(**shape, **ends, **deep, num_key_value_heads=2, head_dim=8))
        return GPT2LMHeadModel(GPT2Config(**shape, **ends, n_embd=dim, n_layer=2, n_head=4))


def save_model(family: str, folder: Path, *, chat: bool = False, seed: int = 3) -> Path:
    """A plain folder of transformers."""
    make_model(family, seed=seed).save_pretrained(folder)
    byte_tokenizer(chat=chat).save_pretrained(folder)
    return folder


def load(folder: Path, **options: object) -> CausalReader:
    """A reader of a saved model, in float32 so that batches of any shape agree."""
    given = {"options": SMALL, "device": "cpu", "dtype": "float32", **options}
    return CausalReader.from_pretrained(str(folder), **given)  # type: ignore[arg-type]


def hits(line: list[Passage]) -> list[ScoredPassage]:
    return [ScoredPassage(passage, 1.0 / (1 + row)) for row, passage in enumerate(line)]


def prompt_of(reader: CausalReader, question: str, line: list[Passage]) -> Prompt:
    (ids,), _ = reader.inputs.questions([question])
    return reader.inputs.pack(ids, reader.inputs.passages(line))
