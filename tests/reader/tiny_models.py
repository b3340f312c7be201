"""Tiny encoder-decoders of three families, two layers, random weights, each with a tokenizer of its own kind."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, Unigram
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from ragkit.types import Passage, ScoredPassage

from .conftest import TEXT, tiny_tokenizer

FAMILIES = ("t5", "bart", "bert", "bert_wide")  # the last: an encoder of another width than the decoder's
ONE_EACH = ("t5", "bart", "bert_wide")

PASSAGES = [
    Passage("1", "Hamlet is an old play by William Shakespeare", "Hamlet"),
    Passage("2", "Rome was the old city in Italy and it is still a city there"),
    Passage("3", "Paris is in France, the score was 23-16.", "Paris"),
    Passage("4", "the poet wrote in 1603", "Poet"),
]
QUESTIONS = ["who wrote hamlet", "where is rome in italy", "when did the poet william write it"]
ANSWERS = ["william shakespeare", "italy", "in 1603"]
LINES = [PASSAGES, PASSAGES[:1:-1], PASSAGES[1:2]]  # 4, 2 and 1 passages


def hits(*passages: Passage) -> list[ScoredPassage]:
    return [ScoredPassage(passage, 1.0 / (1 + row)) for row, passage in enumerate(passages)]


def unigram_tokenizer() -> PreTrainedTokenizerFast:
    """A sentencepiece-like one, as T5 has: pieces begin words with an underline, the end token follows a text."""
    words = [word for word in TEXT.split() if not word.startswith("##")]
    more = ["question:", "title:", "context:", "hamlet", "shakespeare", "Hamlet", "Rome", "William"]
    letters = [chr(code) for code in range(33, 127)]
    pieces = ["<pad>", "</s>", "<unk>", "▁", *(f"▁{word}" for word in [*words, *more]), *letters]
    vocabulary = [(piece, -2.0 - 0.01 * row) for row, piece in enumerate(dict.fromkeys(pieces))]
    model = Tokenizer(Unigram(vocabulary, unk_id=2, byte_fallback=False))
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    model.decoder = decoders.Metaspace()
    model.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level one, as BART has: a word with the space before it is another token than without."""
    model = Tokenizer(BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = BpeTrainer(
        vocab_size=360,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator([passage.text for passage in PASSAGES] * 3 + QUESTIONS * 3, trainer)
    model.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=128,
    )


def make_model(family: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The same model each time; the global random state is left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        if family == "t5":
            return _t5()
        if family == "bart":
            return _bart()
        return _bert(width=48 if family == "bert_wide" else 32)


def save_model(family: str, folder: Path) -> Path:
    """A plain transformers folder."""
    model, tokenizer = make_model(family)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _t5() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    tokenizer = unigram_tokenizer()
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        tie_word_embeddings=False,
    )
    model = T5ForConditionalGeneration(config)
    with torch.no_grad():  # else a random T5 writes its own input again and again
        model.shared.weight.mul_(0.1)
    return model, tokenizer


def _bart() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    tokenizer = byte_tokenizer()
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=128,
        init_std=0.4,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=2,
    )
    return BartForConditionalGeneration(config), tokenizer


def _bert(*, width: int) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )

    def config(size: int, **options: bool) -> BertConfig:
        return BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=size,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=128,
            initializer_range=0.4,
            **options,
        )

    encoder = BertModel(config(width))
    decoder = BertLMHeadModel(config(32, is_decoder=True, add_cross_attention=True))
    return EncoderDecoderModel(encoder=encoder, decoder=decoder), tokenizer
