"""A made-up world to look facts up in, and a T5 small enough to learn it from random weights in minutes.

Everybody has a first and a last name and, for each relation (home, trade, ...), a value of two words. All words are
known; the persons that questions are tested on are pairs of names that no training question or passage has. So an
answer can only be found by reading: by the passage that has the same two names and the same relation.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from ragkit.seeding import derive_seed, make_generator
from ragkit.types import Example, Passage

RELATIONS = ("home", "trade", "song", "tool", "meal", "pet")
QUESTION = "what is the {relation} of {name}"
SENTENCES = ("the {relation} of {name} is {value}", "{name} has the {relation} {value}")

_SYLLABLES = tuple(a + b for a in "bdfgklmnprstvz" for b in "aeiou")
Person = tuple[str, str]


@dataclass(frozen=True, slots=True)
class World:
    """Who there is, and what is true of each; ``unseen`` are the persons to test on."""

    words: tuple[str, ...]
    seen: tuple[Person, ...]
    unseen: tuple[Person, ...]
    facts: dict[tuple[Person, str], str]

    def passage(self, person: Person, relation: str, *, form: int = 0) -> Passage:
        """The passage that says a fact, as the sentence number ``form``; its id names both."""
        name = " ".join(person)
        text = SENTENCES[form].format(relation=relation, name=name, value=self.facts[person, relation])
        return Passage(f"{name} {relation}", text)

    def corpus(self) -> list[Passage]:
        """Every fact, once."""
        return [
            self.passage(person, relation, form=row % len(SENTENCES))
            for row, (person, relation) in enumerate(self.facts)
        ]


def make_world(*, names: int = 24, values: int = 24, seed: int = 0) -> World:
    """``names`` first and as many last names, a quarter of whose pairs is unseen; ``values`` words, twice, for values.

    Values have two words because that is learned several times as fast as one: the second is to be found after the
    first, an easier search that teaches the harder one.
    """
    order = random.Random(derive_seed(seed, "world"))
    pool = [a + b for a, b in itertools.product(_SYLLABLES, repeat=2)]
    words = order.sample(pool, 2 * names + 2 * values)
    persons = list(itertools.product(words[:names], words[names : 2 * names]))
    order.shuffle(persons)
    one, two = words[2 * names : 2 * names + values], words[2 * names + values :]
    facts = {
        (person, relation): f"{order.choice(one)} {order.choice(two)}"
        for person, relation in itertools.product(persons, RELATIONS)
    }
    cut = len(persons) * 3 // 4
    fixed = {word for text in (QUESTION, *SENTENCES) for word in text.split() if "{" not in word}
    return World((*sorted(fixed), *RELATIONS, *words), tuple(persons[:cut]), tuple(persons[cut:]), facts)


def questions(
    world: World, persons: Sequence[Person], *, distractors: int, namesakes: int = 0, seed: int = 0
) -> list[Example]:
    """Every person's every relation, with the passage that answers and ``distractors`` that are easily taken for it.

    One distractor says something else of the person, ``namesakes`` say the same of somebody who shares a name, the rest
    say it of other persons; none has the answer's value. All are about ``persons``: what is unseen stays so.
    """
    order = random.Random(derive_seed(seed, "questions"))
    made = []
    for number, (person, relation) in enumerate(itertools.product(persons, RELATIONS)):
        alike = [other for other in persons if (other[0] == person[0]) != (other[1] == person[1])]
        strangers = [other for other in persons if other[0] != person[0] and other[1] != person[1]]
        near = [(person, other) for other in order.sample([r for r in RELATIONS if r != relation], 1)]
        near += [(other, relation) for other in order.sample(alike, min(len(alike), namesakes))]
        near += [(other, relation) for other in order.sample(strangers, min(len(strangers), 2 * distractors))]
        wrong = [fact for fact in near if world.facts[fact] != world.facts[person, relation]][:distractors]
        order.shuffle(wrong)
        made.append(
            Example(
                str(number),
                QUESTION.format(relation=relation, name=" ".join(person)),
                (world.facts[person, relation],),
                (world.passage(person, relation, form=order.randrange(len(SENTENCES))),),
                tuple(world.passage(*fact, form=order.randrange(len(SENTENCES))) for fact in wrong),
            )
        )
    return made


def write_model(folder: Path, words: Sequence[str], *, dim: int = 64, layers: tuple[int, int] = (3, 1)) -> Path:
    """A T5 with random weights (``layers``: of encoder and decoder, ``dim`` wide) and a tokenizer of whole words."""
    tokens = {word: row for row, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    made = Tokenizer(WordLevel(tokens, unk_token="<unk>"))
    made.pre_tokenizer = WhitespaceSplit()
    made.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    config = T5Config(
        vocab_size=len(tokens),
        d_model=dim,
        d_kv=dim // 4,
        d_ff=2 * dim,
        num_heads=4,
        num_layers=layers[0],
        num_decoder_layers=layers[1],
        relative_attention_max_distance=32,
        dropout_rate=0.0,
        tie_word_embeddings=True,  # what the decoder writes are the vectors of what the encoder reads
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.random.set_rng_state(make_generator(0, "lookup model").get_state())
        T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
