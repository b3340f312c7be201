"""Which of the two models a run of answers alone trains, and on which examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from ragkit.errors import ConfigError, InputError
from ragkit.metrics.matching import token_line
from ragkit.seeding import make_generator
from ragkit.types import Example


@dataclass(frozen=True, slots=True)
class TeachingOptions:
    """What is trained, and on what.

    ``retriever``: "both" towers, "query" (the passage tower stays as it is, bit for bit, so that no refresh is needed)
    or "frozen". ``reader``: "frozen" or "trained". The retriever learns from update ``freeze_retriever_steps`` on.
    ``few_shot`` keeps that many examples, drawn by ``seed``. ``shuffle_answers`` gives every question the answers of
    another: the control, from which nothing can be learned. ``label_smoothing`` is the reader's, and so is
    ``reader_dropout`` (None: as the reader comes); with 0 its own loss and its feedback share their encodings.
    """

    retriever: Literal["both", "query", "frozen"] = "both"
    reader: Literal["frozen", "trained"] = "frozen"
    freeze_retriever_steps: int = 0
    few_shot: int | None = None
    shuffle_answers: bool = False
    label_smoothing: float = 0.0
    seed: int = 0
    reader_dropout: float | None = None

    def __post_init__(self) -> None:
        if self.retriever == "frozen" and self.reader == "frozen":
            raise ConfigError("retriever and reader are both frozen: nothing is trained; let one of them learn")
        if self.freeze_retriever_steps < 0:
            raise ConfigError(f"freeze_retriever_steps must be 0 or more, not {self.freeze_retriever_steps}")
        if self.reader_dropout is not None and self.reader != "trained":
            raise ConfigError(
                "reader_dropout is that of a reader that learns; set teaching.reader=trained, or leave it out"
            )
        if self.reader_dropout is not None and not 0 <= self.reader_dropout < 1:
            raise ConfigError(f"reader_dropout must be from 0 to below 1, or null, not {self.reader_dropout}")
        if self.few_shot is not None and self.few_shot < 1:
            raise ConfigError(f"few_shot must be 1 or more, or null for all examples, not {self.few_shot}")

    def identity(self) -> dict[str, Any]:
        """What the losses depend on; a dropout left as the reader's is no part of it, as in runs of before."""
        found = asdict(self)
        return found if self.reader_dropout is not None else {k: v for k, v in found.items() if k != "reader_dropout"}


def taught_examples(examples: Sequence[Example], options: TeachingOptions) -> tuple[list[Example], int]:
    """The examples to train on and how many were dropped because no answer of theirs has a letter, digit or sign.

    Raises:
        InputError: none is left, or ``few_shot`` wants more than there are.
    """
    usable = []
    for example in examples:
        answers = tuple(answer for answer in example.answers if token_line(answer))
        target = example.target if token_line(example.target) else ""
        if answers or target:
            usable.append(replace(example, answers=answers or (target,), target=target))
    n_dropped = len(examples) - len(usable)
    if not usable:
        raise InputError(f"none of the {len(examples)} training examples has an answer; there is nothing to learn from")
    if options.few_shot is not None:
        if options.few_shot > len(usable):
            raise InputError(f"few_shot={options.few_shot}, but there are only {len(usable)} examples with an answer")
        order = torch.randperm(len(usable), generator=make_generator(options.seed, "few-shot")).tolist()
        usable = [usable[place] for place in sorted(order[: options.few_shot])]
    return (_shuffled(usable, options.seed) if options.shuffle_answers else usable), n_dropped


def _shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """Every example with the answers of another: the next in an order drawn by the seed."""
    order = torch.randperm(len(examples), generator=make_generator(seed, "shuffled answers")).tolist()
    given = dict(zip(order, [*order[1:], order[0]], strict=True))
    return [
        replace(example, answers=examples[given[place]].answers, target=examples[given[place]].target)
        for place, example in enumerate(examples)
    ]


def drawn_answers(items: Sequence[Example], *, seed: int) -> list[str]:
    """One answer a question: the file's target, else one drawn from the seed and the question alone."""
    return [item.target or _draw(item, seed) for item in items]


def _draw(item: Example, seed: int) -> str:
    generator = make_generator(seed, "answer", item.id, item.question)
    return item.answers[int(torch.randint(len(item.answers), (), generator=generator))]
