"""A made-up world in two languages: questions in one, passages in the other (its models: answers_models.py).

Every entity is named by a few words, and its passage says its value, which is the answer. A question names the entity
in the language of questions, its passage in that of passages: they share no content word, only a dictionary, word for
word. In the world of two hops an entity has two passages, each with half of the answer: which answer it is says a table
of both halves, and one half alone says nothing. In a redundant world every fact stands in several passages.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ragkit.corpus import PassageStore, write_store
from ragkit.index import EncoderInfo, IndexSpec, write_index
from ragkit.reader.likelihood import AnswerLikelihood, Given
from ragkit.retriever import DualEncoder
from ragkit.seeding import derive_seed
from ragkit.types import Example, Passage, Prediction, ScoredPassage


@dataclass(frozen=True, slots=True)
class Size:
    """How large a world is: ``words`` in the dictionary, of which every entity's name has ``name``.

    ``values`` are the answers; with ``hops`` 2 they are also the number of halves of either kind.
    """

    entities: int = 2000
    words: int = 56
    name: int = 3
    values: int = 300
    filler: int = 50
    padding: int = 3  # filler words in a passage
    hops: int = 1
    copies: int = 1  # passages in which a fact stands


@dataclass(frozen=True, slots=True)
class World:
    """Entities (words of their names, by number), the passages about each, and a question for each."""

    size: Size
    names: tuple[tuple[int, ...], ...]
    about: tuple[tuple[Passage, ...], ...]
    examples: tuple[Example, ...]

    @property
    def passages(self) -> list[Passage]:
        """The corpus."""
        return [passage for own in self.about for passage in own]

    def split(self) -> tuple[list[Example], list[Example]]:
        """Questions to train on, and those about a fifth of the entities, which no training question names."""
        cut = len(self.examples) * 4 // 5
        return list(self.examples[:cut]), list(self.examples[cut:])

    @property
    def stated(self) -> list[str]:
        """The words that passages state: the answers, or the halves of the answers."""
        kinds = "v" if self.size.hops == 1 else "xy"
        return [f"{kind}{number}" for kind in kinds for number in range(self.size.values)]

    @property
    def vocabulary(self) -> list[str]:
        """Words of questions, of passages, those stated, filler, and then the answers that no passage states."""
        size = self.size
        numbered = [f"{kind}{number}" for kind in "qp" for number in range(size.words)]
        answers = [f"v{number}" for number in range(size.values)] if size.hops > 1 else []
        return [*numbered, *self.stated, *(f"f{number}" for number in range(size.filler)), *answers]


def make_world(size: Size | None = None, *, seed: int = 0) -> World:
    """Names drawn without repeats, values with: a value is that of several entities."""
    size = size or Size()
    order = random.Random(derive_seed(seed, "answers world"))
    names: dict[tuple[int, ...], None] = {}
    while len(names) < size.entities:
        names.setdefault(tuple(sorted(order.sample(range(size.words), size.name))))
    about, examples = [], []
    for number, name in enumerate(names):
        drawn = [order.randrange(size.values) for _ in range(size.hops)]
        said = [f"v{drawn[0]}"] if size.hops == 1 else [f"{kind}{half}" for kind, half in zip("xy", drawn, strict=True)]
        stated = enumerate(said * size.copies)
        own = tuple(_passage(f"e{number}.{part}", name, one, size=size, order=order) for part, one in stated)
        asked = " ".join(f"q{word}" for word in order.sample(name, len(name)))
        answer = f"v{sum(drawn) % size.values}"  # of two halves: a Latin square, in which one half leaves all open
        about.append(own)
        examples.append(Example(f"question {number}", asked, (answer,), own))
    return World(size, tuple(names), tuple(about), tuple(examples))


def _passage(passage_id: str, name: Sequence[int], said: str, *, size: Size, order: random.Random) -> Passage:
    words = [f"p{word}" for word in order.sample(list(name), len(name))]
    return Passage(
        passage_id, " ".join([*words, *(f"f{order.randrange(size.filler)}" for _ in range(size.padding)), said])
    )


def with_distractors(world: World, examples: Sequence[Example], *, count: int, seed: int = 0) -> list[Example]:
    """The examples with ``count`` passages of other entities as hard negatives, half of them with words of the name."""
    order = random.Random(derive_seed(seed, "distractors"))
    found = []
    for example in examples:
        number = int(example.id.split()[1])
        others = [other for other in order.sample(range(len(world.about)), 60) if other != number]
        others.sort(key=lambda other: -len({*world.names[number]} & {*world.names[other]}))  # noqa: B023  used at once
        chosen = [*others[: count // 2], *order.sample(others[count // 2 :], count - count // 2)]
        wrong = tuple(order.choice(world.about[other]) for other in chosen)
        found.append(replace(example, hard_negatives=wrong))
    return found


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

    It gives an answer 0.9 where the set holds the entity's own passages and they say it, 0.1 where another passage
    says it, 0.001 otherwise.
    """

    def __init__(self, world: World) -> None:
        self._own = {example.question: {p.id for p in example.positives} for example in world.examples}
        self._answers = {example.question: example.answers for example in world.examples}

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
        is_known = self._own[question] <= {passage.id for passage in found} and answer in self._answers[question]
        is_said = any(passage.text.endswith(f" {answer}") for passage in found)
        return math.log(0.9 if is_known else 0.1 if is_said else 0.001)


def _sets(line: Sequence[Passage], given: Given) -> list[list[Passage]]:
    if given == "joint":
        return [list(line)]
    if given == "alone":
        return [[passage] for passage in line]
    return [[*line[:at], *line[at + 1 :]] for at in range(len(line))]
