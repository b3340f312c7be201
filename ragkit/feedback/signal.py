"""What every feedback signal takes and returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ragkit.errors import ConfigError, InputError
from ragkit.reader.fusion import Memory
from ragkit.reader.likelihood import AnswerLikelihood, Given
from ragkit.reader.protocol import AttendingReader, EncodingReader, Reader, ScoringReader
from ragkit.types import Passage

Normalize = Literal["sum", "mean"]


@dataclass(frozen=True, slots=True)
class AnsweredQuestions:
    """Questions, the passages found for each, and the answer that each passage is judged by.

    A reader with ``takes_all_answers`` (the extractive one) may be given several answers a question. ``memory`` is the
    passages as an :class:`~ragkit.reader.protocol.EncodingReader` encoded them, in the same order, if that was done
    already (:func:`~ragkit.feedback.encoding.encoded`): of the reader that is asked, with the weights that it has.
    """

    questions: Sequence[str]
    passages: Sequence[Sequence[Passage]]
    answers: Sequence[str] | Sequence[Sequence[str]]
    memory: Memory | None = None

    def __post_init__(self) -> None:
        if not len(self.questions) == len(self.passages) == len(self.answers):
            raise InputError(
                f"{len(self.questions)} questions with {len(self.passages)} lists of passages and {len(self.answers)} "
                "answers; give each question one of each"
            )
        if self.memory is not None and len(self.memory.mask) != len(self.questions):
            raise InputError(f"{len(self.questions)} questions with a memory of {len(self.memory.mask)}")

    def take(self, rows: Sequence[int]) -> AnsweredQuestions:
        """Some of the questions, with what belongs to them."""
        memory = None
        if self.memory is not None:
            at = torch.tensor(rows, device=self.memory.mask.device, dtype=torch.int64)
            memory = self.memory.take(at, keep=self.memory.mask[at])
        answers: Any = [self.answers[row] for row in rows]
        questions, passages = [self.questions[row] for row in rows], [self.passages[row] for row in rows]
        return AnsweredQuestions(questions, passages, answers, memory)


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


def encoding(reader: Reader) -> EncodingReader:
    """The reader, if it takes passages that are encoded already; else ConfigError."""
    if not isinstance(reader, EncodingReader):
        raise ConfigError(f"a {type(reader).__name__} takes no encoded passages; ask it without asked.memory")
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


def answer_likelihood(reader: Reader, asked: AnsweredQuestions, *, given: Given) -> AnswerLikelihood:
    """What the reader says of each question's answer, from the passages or from what is encoded of them already."""
    answers: Any = asked.answers
    with judging(reader):
        if asked.memory is None:
            return scoring(reader).log_likelihood(asked.questions, asked.passages, answers, given=given)
        return encoding(reader).score(asked.memory, answers, given=given)
