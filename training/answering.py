"""What a generative reader trains on: a question, one of its answers, and the passages to answer from."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ragkit.errors import ConfigError, InputError
from ragkit.metrics import has_answer
from ragkit.metrics.matching import token_line
from ragkit.seeding import make_generator
from ragkit.types import Example, Passage, ScoredPassage

from .reading import unique

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GenerativeOptions:
    """Which passages and which answer a question trains with, and which part of the reader learns.

    ``passages``: ``retrieved`` are those of the file (``ctxs``) and of the index, best first; ``gold`` the file's
    positives and then its hard negatives; ``both`` the positives, then the retrieved, then the hard negatives.
    ``n_passages`` of them are read: a number, or ``[least, most]`` to draw it anew in every step; 0 is closed book.
    ``draw``: the ``first`` ones, or ``random`` ones (with ``gold`` and ``both`` a positive is always among them).
    ``order``: as listed, or ``shuffled`` in every step.

    ``answer``: the file's ``target`` where it names one, else ``any`` answer, the ``first``, or one that stands
    ``in_passages`` (any where none does). ``label_smoothing`` is the share spread evenly over the vocabulary.

    ``dropout`` replaces the model's own everywhere (None keeps it). ``frozen_layers`` keeps the encoder's embeddings
    and that many of its lowest layers as they are, ``frozen_encoder`` all of it, ``frozen_words`` the word vectors of
    encoder and decoder (Adam moves every one of them in every step, however few words a batch has, and a decoder that
    copies by them unlearns it). ``gradient_checkpointing`` computes activations twice instead of keeping them.
    Evaluation reads ``dev_passages`` passages (None: the most of ``n_passages``) of the first ``dev_questions``
    questions (None: all).
    """

    passages: Literal["retrieved", "gold", "both"] = "retrieved"
    n_passages: int | list[int] = 5
    draw: Literal["first", "random"] = "first"
    order: Literal["listed", "shuffled"] = "listed"
    answer: Literal["any", "first", "in_passages"] = "any"
    label_smoothing: float = 0.0
    dropout: float | None = None
    frozen_layers: int = 0
    frozen_encoder: bool = False
    frozen_words: bool = False
    gradient_checkpointing: bool = False
    dev_passages: int | None = None
    dev_questions: int | None = None

    def __post_init__(self) -> None:
        is_pair = isinstance(self.n_passages, list) and len(self.n_passages) == 2  # noqa: PLR2004  least and most
        if not (is_pair or isinstance(self.n_passages, int)) or not 0 <= self.least <= self.most:
            raise ConfigError(
                f"options.n_passages must be a number of 0 or more, or [least, most], not {self.n_passages}"
            )
        for name, least in {"frozen_layers": 0, "dev_passages": 0, "dev_questions": 1}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"options.{name} must be {least} or more, not {value}")
        for name in ("label_smoothing", "dropout"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"options.{name} must be at least 0 and below 1, not {value}")

    @property
    def least(self) -> int:
        """The fewest passages that a question trains with."""
        return self.n_passages if isinstance(self.n_passages, int) else self.n_passages[0]

    @property
    def most(self) -> int:
        """The most passages that a question trains with."""
        return self.n_passages if isinstance(self.n_passages, int) else self.n_passages[-1]


@dataclass(frozen=True, slots=True)
class GenerativeItem:
    """A question, the answers to draw from, and the passages to read; the first ``n_gold`` of them are positives."""

    number: int
    question: str
    answers: tuple[str, ...]
    passages: tuple[Passage, ...] = ()
    n_gold: int = 0


@dataclass(frozen=True, slots=True)
class GenerativeBatch:
    """Questions, the passages that each is read with, and the answer that each is to get."""

    questions: list[str]
    passages: list[list[Passage]]
    answers: list[str]


@dataclass(frozen=True, slots=True)
class GenerativeCounts:
    """Questions kept; dropped for want of an answer with any word, or of a passage; read with fewer than asked for."""

    kept: int
    without_answer: int
    without_passage: int
    short: int


def generative_items(
    examples: Iterable[Example], *, options: GenerativeOptions
) -> tuple[list[GenerativeItem], GenerativeCounts]:
    """What there is to train on, and what became of the examples.

    A question without an answer that has a word or sign, or (unless it is trained closed book) without a passage that
    has text, is dropped and counted. InputError where none is left.
    """
    items: list[GenerativeItem] = []
    n_examples = without_answer = without_passage = short = 0
    for example in examples:
        n_examples += 1
        answers = _targets(example, options.answer)
        passages, n_gold = listed_passages(example, options.passages) if options.most else ([], 0)
        without_answer += not answers
        without_passage += bool(answers) and options.most > 0 and not passages
        if answers and (passages or options.most == 0):
            short += len(passages) < options.most
            items.append(GenerativeItem(len(items), example.question, answers, tuple(passages), n_gold))
    if not items:
        raise InputError(
            f"none of the {n_examples} training questions can be used: {without_answer} have no answer and "
            f"{without_passage} no passage (passages: {options.passages}); name an index, index_dir=DIR, give a file "
            "with passages, choose another task.options.passages, or train closed book: task.options.n_passages=0"
        )
    return items, GenerativeCounts(len(items), without_answer, without_passage, short)


def _targets(example: Example, answer: str) -> tuple[str, ...]:
    if example.target.strip():
        return (example.target,)
    found = tuple(text for text in example.answers if token_line(text))
    return found[:1] if answer == "first" else found


def listed_passages(example: Example, passages: str) -> tuple[list[Passage], int]:
    """The passages of an example that have text, each once, and how many of the first are positives."""
    gold = [passage for passage in unique(example.positives) if passage.text.strip()] if passages != "retrieved" else []
    hits = [hit.passage for hit in example.retrieved] if passages != "gold" else []
    hard = example.hard_negatives if passages != "retrieved" else ()
    return [passage for passage in unique([*gold, *hits, *hard]) if passage.text.strip()], len(gold)


def dev_passages(example: Example, *, options: GenerativeOptions) -> list[ScoredPassage]:
    """The passages that a dev question is answered from, in the order of the list; retrieved ones with their scores."""
    scores = {(hit.passage.title, hit.passage.text): hit.score for hit in example.retrieved}
    listed, _ = listed_passages(example, options.passages)
    n = options.most if options.dev_passages is None else options.dev_passages
    return [ScoredPassage(passage, scores.get((passage.title, passage.text), 0.0)) for passage in listed[:n]]


def draw_batch(items: Sequence[GenerativeItem], *, options: GenerativeOptions, seed: int) -> GenerativeBatch:
    """Passages and an answer for each item, drawn from the seed and the item's number alone."""
    passages = [
        _draw_passages(item, options=options, generator=make_generator(seed, "passages", item.number)) for item in items
    ]
    answers = [
        _draw_answer(item, line, options=options, generator=make_generator(seed, "answer", item.number))
        for item, line in zip(items, passages, strict=True)
    ]
    return GenerativeBatch([item.question for item in items], passages, answers)


def _draw_passages(item: GenerativeItem, *, options: GenerativeOptions, generator: torch.Generator) -> list[Passage]:
    n = int(torch.randint(options.least, options.most + 1, (), generator=generator))
    listed = list(range(len(item.passages)))
    if options.draw == "random":
        order = torch.randperm(len(listed), generator=generator).tolist()
        gold = [row for row in order if row < item.n_gold][:1]
        listed = sorted([*gold, *(row for row in order if row not in gold)][:n])
    chosen = [item.passages[row] for row in listed[:n]]
    if options.order == "shuffled":
        chosen = [chosen[row] for row in torch.randperm(len(chosen), generator=generator).tolist()]
    return chosen


def _draw_answer(
    item: GenerativeItem, passages: Sequence[Passage], *, options: GenerativeOptions, generator: torch.Generator
) -> str:
    answers = item.answers
    if options.answer == "in_passages" and len(answers) > 1:
        found = [text for text in answers if any(has_answer(passage.text, [text]) for passage in passages)]
        answers = tuple(found) or answers
    return answers[int(torch.randint(len(answers), (), generator=generator))]


def items_digest(items: Iterable[GenerativeItem]) -> str:
    """Sha256 of all items, 16 characters: whether a resumed run has the same data."""
    total = hashlib.sha256()
    for item in items:
        texts = [(passage.title, passage.text) for passage in item.passages]
        total.update(json.dumps([item.question, item.answers, texts, item.n_gold]).encode())
    return total.hexdigest()[:16]


def log_counts(counts: GenerativeCounts, *, options: GenerativeOptions) -> None:
    """Say what became of the training questions."""
    log.info("%d questions to train on", counts.kept)
    dropped: Mapping[str, int] = {"an answer": counts.without_answer, "a passage": counts.without_passage}
    for what, number in dropped.items():
        if number:
            log.warning("dropped %d questions: they have no %s with any text", number, what.split()[-1])
    if counts.short:
        log.warning("%d questions have fewer than %d passages", counts.short, options.most)
