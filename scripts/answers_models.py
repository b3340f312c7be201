"""The models of the made-up world (answers_world.py): a retriever of words and a reader, small enough for a test.

The untrained retriever knows a third of the dictionary. The reader begins with what a pretrained one brings along, and
learns to read from gold passages.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from answers_world import World, with_distractors
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from ragkit.reader.fid import FusionReader
from ragkit.reader.generation import GenerationOptions
from ragkit.reader.prompts import FusionOptions
from ragkit.reader.seq2seq import Seq2SeqWeights
from ragkit.retriever import DualEncoder
from ragkit.retriever.options import EncoderOptions
from ragkit.retriever.tower import Tower
from ragkit.seeding import make_generator
from ragkit.training.answering import GenerativeOptions
from ragkit.training.generative import GenerativeTask

KNOWN = 3  # the untrained retriever knows every third word of the dictionary
HEADS = 1  # of the reader: with more, likeness is measured in fewer dimensions
LIKENESS = 0.63  # how much a word prefers the one like it, in the reader's first layer


def tokenizer_of(words: Sequence[str], *, end: bool) -> PreTrainedTokenizerFast:
    """Whole words; with ``end``, an end token after every text."""
    tokens = {word: row for row, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    made = Tokenizer(WordLevel(tokens, unk_token="<unk>"))
    made.pre_tokenizer = WhitespaceSplit()
    if end:
        made.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def make_retriever(world: World, *, dim: int = 64, seed: int = 0) -> DualEncoder:
    """A bag of words: BERT's embeddings without any layer, the mean of the words' vectors, length 1.

    A word and its translation begin with one vector where the retriever knows them, else with two drawn at random.
    """
    words = world.vocabulary
    tokenizer = tokenizer_of(words, end=False)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=dim,
        num_hidden_layers=0,
        num_attention_heads=1,
        intermediate_size=1,
        max_position_embeddings=64,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        layer_norm_eps=1e-5,
    )
    with torch.random.fork_rng():
        torch.random.set_rng_state(make_generator(seed, "retriever").get_state())
        model = BertModel(config, add_pooling_layer=False)
        vectors = torch.randn(len(tokenizer), dim)
    first = len(tokenizer) - len(words)
    for word in range(0, world.size.words, KNOWN):
        vectors[first + world.size.words + word] = vectors[first + word]
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.copy_(vectors)
        model.embeddings.position_embeddings.weight.zero_()
        model.embeddings.token_type_embeddings.weight.zero_()
    for part in (model.embeddings.position_embeddings, model.embeddings.token_type_embeddings):
        part.requires_grad_(False)
    tower = Tower(model, tokenizer)
    options = EncoderOptions(normalize=True, passage_template="{text}", query_max_length=16, passage_max_length=32)
    return DualEncoder(tower, tower, options)


def make_reader(world: World, *, dim: int = 64, layers: tuple[int, int] = (2, 1), seed: int = 0) -> FusionReader:
    """FiD over a T5 with random weights."""
    tokenizer = tokenizer_of([*world.vocabulary, "question:", "context:"], end=True)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=dim,
        d_kv=dim // HEADS,
        d_ff=2 * dim,
        num_heads=HEADS,
        num_layers=layers[0],
        num_decoder_layers=layers[1],
        relative_attention_max_distance=32,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.random.set_rng_state(make_generator(seed, "reader").get_state())
        model = T5ForConditionalGeneration(config)
        axes = torch.linalg.qr(torch.randn(dim, dim)).Q * dim**0.5  # like torch.randn in length, and none like another
    _prepare(model, world, first=len(tokenizer) - len(world.vocabulary) - 2, axes=axes)
    options = FusionOptions(
        max_length=40, max_question=8, question="{text}", passage="context: {text}", memory="states_and_words"
    )
    weights = Seq2SeqWeights(model, tokenizer, options, GenerationOptions(max_tokens=2))
    return FusionReader(weights, device="cpu", dtype="float32")


def reading_task(reader: FusionReader, world: World, *, seed: int) -> GenerativeTask:
    """What trains the reader: gold passages among distractors; exact match is that of unseen entities."""
    taught, asked = (with_distractors(world, part, count=9, seed=seed) for part in world.split())
    draws = GenerativeOptions(
        passages="gold",
        n_passages=[3, 10],
        order="shuffled",
        label_smoothing=0.1,  # what it does not expect it shall find equally unlikely: that is no feedback
        dev_questions=100,
        dev_passages=10,
    )
    return GenerativeTask(reader, train=taught, dev=asked, options=draws)


@torch.no_grad()
def _prepare(model: T5ForConditionalGeneration, world: World, *, first: int, axes: torch.Tensor) -> None:
    """What a pretrained reader brings along: the dictionary, attention to like words, and a way to copy.

    A word is its meaning, the same in both languages, plus a vector of its kind (questions', passages', value, filler);
    these vectors stay as they are. In the first layer a passage's word looks for the like word of the question, and is
    marked where it finds one; in the second a value looks at its passage's words and gathers their marks; the decoder
    looks at values, and what it reads goes unchanged to the output. How much each of these counts, and when an answer
    ends, is learned from gold passages.
    """
    words, vectors = world.size.words, model.shared.weight
    question, passage, value, _, mark = axes[:5]
    vectors[first : first + 2 * words] = axes[5 : 5 + words].repeat(2, 1)
    counts = torch.tensor([words, words, len(world.stated), world.size.filler])
    kinds = axes[:4].repeat_interleave(counts, dim=0)
    vectors[first : first + len(kinds)] += kinds
    vectors.requires_grad_(False)
    like, gather = (block.layer[0].SelfAttention for block in model.encoder.block[:2])
    same = torch.eye(len(axes))
    like.k.weight.copy_(LIKENESS * same)
    like.q.weight.copy_(LIKENESS * (same + 1.5 * _from(passage, to=question)))
    like.v.weight.copy_(_from(question, to=question))
    like.o.weight.copy_(same)
    gather.k.weight.add_(_from(passage, to=mark))
    gather.q.weight.add_(0.1 * _from(value, to=mark))
    gather.v.weight.copy_(_from(question, to=mark))
    gather.o.weight.copy_(same)
    for block in model.decoder.block:
        reading = block.layer[1].EncDecAttention
        reading.q.weight.add_(0.03 * _from(vectors[0], to=mark))
        reading.k.weight.add_(_from(value, to=mark) + 2 * _from(mark, to=mark))
        reading.v.weight.copy_(same)
        reading.o.weight.copy_(same)


def _from(axis: torch.Tensor, *, to: torch.Tensor) -> torch.Tensor:
    """The matrix that turns one axis into another and everything else into nothing."""
    return torch.outer(to, axis) / axis.square().sum()
