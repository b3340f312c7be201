"""What the rest of ragkit needs from a reader: answers; and, to train a retriever by it, its opinion of passages."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ragkit.reader.fusion import Memory
from ragkit.reader.likelihood import AnswerLikelihood, Given
from ragkit.types import Passage, Prediction, ScoredPassage

Explain = Literal["leave_one_out", "attention"]
MassKind = Literal["value_norm", "probability", "pre_softmax"]


@runtime_checkable
class Reader(Protocol):
    """Anything that answers a question from retrieved passages."""

    def answer(self, questions: Sequence[str], passages: Sequence[Sequence[ScoredPassage]]) -> list[Prediction]:
        """One prediction a question, from that question's passages, best first; no passages: the empty prediction."""
        ...

    def save_pretrained(self, folder: Path) -> None:
        """Write the reader so that its ``from_pretrained`` and transformers load it."""
        ...


@runtime_checkable
class ExplainingReader(Reader, Protocol):
    """A reader that can say, at some cost, what each passage contributed to an answer."""

    @property
    def explanations(self) -> tuple[Explain, ...]:
        """The ways in which it can."""
        ...

    def answer(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[ScoredPassage]],
        *,
        explain: Explain | None = None,
    ) -> list[Prediction]:
        """As :meth:`Reader.answer`, with every passage's contribution: its share of what ``explain`` measures.

        ``leave_one_out``: the softmax over passages of what the answer's log-likelihood loses without each;
        ``attention``: the share of the attention's mass. None: contributions are 0, in the retriever's order.
        """
        ...


@runtime_checkable
class ContextKeeper(Protocol):
    """A reader that can keep what it computes of a passage, for the next question and the next process."""

    def keep_contexts(self, folder: Path) -> None:
        """Keep it in ``folder``, unless it was told of one before."""
        ...


@runtime_checkable
class ScoringReader(Reader, Protocol):
    """A reader that says how likely it finds a given answer."""

    def log_likelihood(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        answers: Sequence[str],
        *,
        given: Given = "joint",
    ) -> AnswerLikelihood:
        """The likelihood of one answer a question, given the passages ``joint``, each ``alone``, or all but each.

        No gradient; computed in eval mode, the mode put back after. A question without passages is scored from the
        question alone; so is the set that leaving out a question's only passage leaves.
        """
        ...


@runtime_checkable
class AttendingReader(ScoringReader, Protocol):
    """A scoring reader whose attention to each passage can be read."""

    def attention_mass(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        answers: Sequence[str],
        *,
        kind: MassKind = "value_norm",
    ) -> Float[Tensor, "query passage"]:
        """The attention that the answer pays to each passage, all passages read jointly; -inf for a missing one.

        ``value_norm`` is ADist's: attention times the norm of the values, summed over the passage's tokens, averaged
        over layers, heads and answer tokens. ``probability`` leaves the norm out: it sums to 1 over the passages.
        ``pre_softmax`` is FiD-KD's: the scores before the softmax for the first answer token, averaged over layers,
        heads and the passage's tokens, up to a constant of the question. No gradient, eval mode.
        """
        ...


@runtime_checkable
class EncodingReader(AttendingReader, Protocol):
    """A reader whose encodings of passages can be kept for several questions about them (FiD, FiDO).

    A memory is worth what the weights were when it was made: it must not outlive an optimizer's step.
    """

    def encode(
        self, questions: Sequence[str], passages: Sequence[Sequence[Passage]], *, with_alone: bool = False
    ) -> Memory:
        """The passages encoded, in the current mode and number format, with gradient where that is enabled.

        ``with_alone`` holds a question with one passage alone too, as leaving that one out needs it.
        """
        ...

    def score(self, memory: Memory, answers: Sequence[str], *, given: Given = "joint") -> AnswerLikelihood:
        """As :meth:`ScoringReader.log_likelihood`, of passages that are encoded already; no gradient."""
        ...

    def attend(
        self, memory: Memory, answers: Sequence[str], *, kind: MassKind = "value_norm"
    ) -> Float[Tensor, "query passage"]:
        """As :meth:`AttendingReader.attention_mass`, of passages that are encoded already; no gradient."""
        ...

    def nll(self, memory: Memory, answers: Sequence[str], *, label_smoothing: float = 0.0) -> Float[Tensor, ""]:
        """The reader's own loss on passages that are encoded already, whose states the gradient reaches."""
        ...

    def answering(self) -> AbstractContextManager[None]:
        """The block in which it scores: eval mode, no gradient, its number format; the mode is put back after."""
        ...
