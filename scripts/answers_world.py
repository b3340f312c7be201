"""A made-up world in two languages: questions in one, passages in the other, and models small enough to learn it.

Every entity is named by a few words, and its passage says its value. A question names the entity in the language of
questions, its passage in that of passages: they share no content word, only a dictionary, word for word. The untrained
retriever knows a third of the dictionary; the reader learns all of it from gold passages.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from ragkit.corpus import PassageStore, write_store
from ragkit.index import EncoderInfo, IndexSpec, write_index
from ragkit.reader.fid import FusionReader
from ragkit.reader.likelihood import AnswerLikelihood, Given
from ragkit.reader.prompts import FusionOptions
from ragkit.reader.seq2seq import Seq2SeqWeights
from ragkit.retriever import DualEncoder
from ragkit.retriever.options import EncoderOptions
from ragkit.retriever.tower import Tower
from ragkit.seeding import derive_seed, make_generator
from ragkit.types import Example, Passage, Prediction, ScoredPassage

KNOWN = 3  # the untrained retriever knows every third word of the dictionary


@dataclass(frozen=True, slots=True)
class Size:
    """How large a world is: ``words`` in the dictionary, of which every entity's name has ``name``."""

    entities: int = 2000
    words: int = 100
    name: int = 3
    values: int = 300
    filler: int = 50
    padding: int = 3  # filler words in a passage


@dataclass(frozen=True, slots=True)
class World:
    """Entities (words of their names, by number), their values, and the passages that say them, one an entity."""

    size: Size
    names: tuple[tuple[int, ...], ...]
    passages: tuple[Passage, ...]
    examples: tuple[Example, ...]
    seed: int

    def split(self) -> tuple[list[Example], list[Example]]:
        """Questions to train on, and those about a fifth of the entities, which no training question names."""
        cut = len(self.examples) * 4 // 5
        return list(self.examples[:cut]), list(self.examples[cut:])

    @property
    def vocabulary(self) -> list[str]:
        """All words, those of questions first."""
        size = self.size
        numbered = [f"{kind}{number}" for kind in "qp" for number in range(size.words)]
        return [*numbered, *(f"v{n}" for n in range(size.values)), *(f"f{n}" for n in range(size.filler))]


def make_world(size: Size | None = None, *, seed: int = 0) -> World:
    """Names drawn without repeats, values with: a value is that of several entities."""
    size = size or Size()
    order = random.Random(derive_seed(seed, "answers world"))
    names: dict[tuple[int, ...], None] = {}
    while len(names) < size.entities:
        names.setdefault(tuple(sorted(order.sample(range(size.words), size.name))))
    passages, examples = [], []
    for number, name in enumerate(names):
        value = f"v{order.randrange(size.values)}"
        passages.append(_passage(f"e{number}", name, value, size=size, order=order))
        asked = [f"q{word}" for word in order.sample(name, len(name))]
        examples.append(Example(f"question {number}", " ".join(asked), (value,), (passages[-1],)))
    return World(size, tuple(names), tuple(passages), tuple(examples), seed)


def _passage(passage_id: str, name: Sequence[int], value: str, *, size: Size, order: random.Random) -> Passage:
    words = [f"p{word}" for word in order.sample(list(name), len(name))]
    text = [*words, *(f"f{order.randrange(size.filler)}" for _ in range(size.padding)), value]
    return Passage(passage_id, " ".join(text))


def near_passages(world: World, example: Example, *, count: int, order: random.Random) -> list[Passage]:
    """Other entities' passages, the half of them sharing words of the name, none with the same value."""
    number = int(example.positives[0].id[1:])
    name, answer = set(world.names[number]), example.answers[0]
    drawn = order.sample(range(len(world.passages)), 60)
    drawn.sort(key=lambda other: -len(name & set(world.names[other])))
    chosen = [*drawn[: count - count // 2], *order.sample(drawn[count:], count // 2)]
    return [world.passages[other] for other in chosen if not world.passages[other].text.endswith(f" {answer}")]


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
        d_kv=dim // 4,
        d_ff=2 * dim,
        num_heads=4,
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
        language = torch.randn(dim)
    _prepare(model, world, first=len(tokenizer) - len(world.vocabulary) - 2, language=language)
    options = FusionOptions(
        max_length=40, max_question=8, question="{text}", passage="context: {text}", memory="states_and_words"
    )
    return FusionReader(Seq2SeqWeights(model, tokenizer, options), device="cpu", dtype="float32")


@torch.no_grad()
def _prepare(model: T5ForConditionalGeneration, world: World, *, first: int, language: torch.Tensor) -> None:
    """What a pretrained reader brings along: words near their translations, attention to like words, a way to copy.

    A word of the questions is its translation plus one vector of their language; the first layer's queries are its
    keys; and what cross-attention reads goes unchanged to the output, whose words are those of the input.
    """
    words, vectors = world.size.words, model.shared.weight
    vectors[first : first + words] = vectors[first + words : first + 2 * words] + language
    like = model.encoder.block[0].layer[0].SelfAttention
    like.k.weight.copy_(like.q.weight * 2)
    like.q.weight.mul_(2)
    for block in model.decoder.block:
        copying = block.layer[1].EncDecAttention
        for part in (copying.v, copying.o):
            torch.nn.init.eye_(part.weight)


def make_index(folder: Path, encoder: DualEncoder, passages: Sequence[Passage]) -> PassageStore:
    """A flat index of the passages in ``folder``, generation 1."""
    aside = folder.parent / f"{folder.name}-store"
    store = write_store(passages, aside)
    vectors = encoder.encode_passages(store.take(np.arange(len(store))))
    made_by = EncoderInfo(encoder.reference, encoder.digest, "float32", dict(encoder.recipe))
    write_index(vectors, IndexSpec(), folder, encoder=made_by, corpus_digest=store.digest)
    aside.rename(folder / "corpus")
    return PassageStore.open(folder / "corpus")


class SimulatedReader:
    """A reader by rule, which reads no weights: what a perfect one would say, in no time.

    It gives an answer 0.9 where the set holds the entity's own passage and that says the answer, 0.1 where another
    passage says it, 0.001 otherwise. Without the own passage it does not know better (``by_name`` False: it goes by
    the value alone).
    """

    def __init__(self, world: World, *, by_name: bool = True) -> None:
        self._gold = {example.question: example.positives[0].id for example in world.examples}
        self._by_name = by_name

    def answer(self, questions: Sequence[str], passages: Sequence[Sequence[ScoredPassage]]) -> list[Prediction]:
        """It never writes."""
        del passages
        return [Prediction("", float("-inf")) for _ in questions]

    def save_pretrained(self, folder: Path) -> None:
        """There is nothing to save."""
        del folder

    def log_likelihood(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        answers: Sequence[str],
        *,
        given: Given = "joint",
    ) -> AnswerLikelihood:
        """By the rule; an answer is one token."""
        sets = [_sets(line, given) for line in passages]
        shape = (len(sets), max((len(line) for line in sets), default=0))
        tokens, mask = torch.zeros(*shape, 1), torch.zeros(shape, dtype=torch.bool)
        for row, line in enumerate(sets):
            for column, found in enumerate(line):
                tokens[row, column] = self._judge(questions[row], found, answers[row])
                mask[row, column] = True
        return AnswerLikelihood(tokens, torch.ones(len(sets), 1, dtype=torch.bool), mask)

    def _judge(self, question: str, found: Sequence[Passage], answer: str) -> float:
        saying = [passage for passage in found if passage.text.endswith(f" {answer}")]
        if any(passage.id == self._gold[question] or not self._by_name for passage in saying):
            return math.log(0.9)
        return math.log(0.1 if saying else 0.001)


def _sets(line: Sequence[Passage], given: Given) -> list[list[Passage]]:
    if given == "joint":
        return [list(line)]
    if given == "alone":
        return [[passage] for passage in line]
    return [[*line[:at], *line[at + 1 :]] for at in range(len(line))]
