"""What every feedback signal takes and returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ragkit.errors import ConfigError, InputError
from ragkit.reader.protocol import AttendingReader, Reader, ScoringReader
from ragkit.types import Passage

Normalize = Literal["sum", "mean"]


@dataclass(frozen=True, slots=True)
class AnsweredQuestions:
    """Questions, the passages found for each, and the answer that each passage is judged by.

    A reader with ``takes_all_answers`` (the extractive one) may be given several answers a question.
    """

    questions: Sequence[str]
    passages: Sequence[Sequence[Passage]]
    answers: Sequence[str] | Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        if not len(self.questions) == len(self.passages) == len(self.answers):
            raise InputError(
                f"{len(self.questions)} questions with {len(self.passages)} lists of passages and {len(self.answers)} "
                "answers; give each question one of each"
            )


@dataclass(frozen=True, slots=True)
class Feedback:
    """The reader's score of each passage, larger is better; -inf where a question has fewer passages than the most.

    ``values`` may have an axis of answer tokens, whose padding is False in ``token_mask`` ``[query, token]``.
    """

    values: Float[Tensor, "query passage *token"]
    token_mask: Bool[Tensor, "query token"] | None = None


@runtime_checkable
class Signal(Protocol):
    """A function from a reader and answered questions to feedback; its options are keywords."""

    def __call__(self, reader: Reader, asked: AnsweredQuestions) -> Feedback:
        """No gradient; the reader in eval mode meanwhile and as it was afterwards."""
        ...


def scoring(reader: Reader) -> ScoringReader:
    """The reader, if it can say how likely an answer is; else ConfigError."""
    if not isinstance(reader, ScoringReader):
        raise ConfigError(
            f"a {type(reader).__name__} gives no likelihood of an answer (it has no log_likelihood); "
            "take an extractive, FiD, FiDO or causal reader"
        )
    return reader


def attending(reader: Reader) -> AttendingReader:
    """The reader, if its cross-attention can be read; else ConfigError."""
    if not isinstance(reader, AttendingReader):
        raise ConfigError(
            f"loss=adist reads cross-attention, and a {type(reader).__name__} has none; "
            "take a FiD or FiDO reader, or loss=ldist, emdr2 or lool"
        )
    return reader


@contextmanager
def judging(reader: Reader) -> Iterator[None]:
    """No gradient and eval mode inside the block, whatever the reader does itself; its mode is put back after."""
    modes = [(module, module.training) for module in reader.modules()] if isinstance(reader, nn.Module) else []
    try:
        if isinstance(reader, nn.Module):
            reader.eval()
        with torch.no_grad():
            yield
    finally:
        for module, was_training in modes:
            module.training = was_training
