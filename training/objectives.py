"""What a retriever is trained for: the reader's feedback, gold passages, or a weighted sum of several."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ragkit import distributed
from ragkit.errors import ConfigError
from ragkit.feedback import AnsweredQuestions, Feedback, Signal, encoded
from ragkit.losses import contrastive, distillation_kl
from ragkit.reader.protocol import Reader
from ragkit.retriever import DualEncoder
from ragkit.types import Example

from .questions import gold_keys, is_gold, passage_keys

log = logging.getLogger(__name__)

Loss = Callable[..., Tensor]

_TOP_SHARE = "_top_share"
_FLAT = 1.25  # times an equal share: below it a target says next to nothing


@dataclass(frozen=True, slots=True)
class Retrieved:
    """One batch as the retriever's objectives see it: its scores of the passages it found, with gradient.

    ``scores`` are inner products of vectors made with the weights as they are now, -inf where ``mask`` is False.
    ``figures`` is where an objective leaves what it found out, for the log.
    """

    scores: Float[Tensor, "query passage"]
    mask: Bool[Tensor, "query passage"]
    query_vectors: Float[Tensor, "query dim"]
    asked: AnsweredQuestions
    items: Sequence[Example]
    reader: Reader | None
    encoder: DualEncoder
    figures: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class Objective(Protocol):
    """A loss of the retriever: the **mean over the questions of the batch**; a question without passages adds 0."""

    def check(self, reader: Reader | None, asked: AnsweredQuestions) -> None:
        """Raise ConfigError where this reader cannot give what is wanted; ``asked`` is something to try it on."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What its value depends on, as JSON values."""
        ...

    @property
    def n_signals(self) -> int:
        """How often it asks the reader about a batch."""
        ...

    def __call__(self, found: Retrieved) -> Float[Tensor, ""]:
        """The loss, with gradient to the retriever only."""
        ...


@dataclass(frozen=True, slots=True)
class FeedbackObjective:
    """A loss between the retriever's scores and a reader's feedback on the same passages.

    ``score_scale`` "sqrt_dim" divides the inner products by the square root of the dimension before the loss and its
    temperature (Atlas's code, EMDR2's); ``per_passage`` divides the loss by the number of passages as well (the element
    mean of Atlas's KL): same direction, smaller numbers.
    """

    signal: Signal
    loss: Loss
    score_scale: Literal["none", "sqrt_dim"] = "none"
    per_passage: bool = False

    def check(self, reader: Reader | None, asked: AnsweredQuestions) -> None:
        """Ask the reader once: a fault of the thousandth second is not to show after an hour."""
        self.signal(_given(reader), asked)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The functions and their options."""
        options = {"score_scale": self.score_scale, "per_passage": self.per_passage}
        return {"signal": described(self.signal), "loss": described(self.loss), **options}

    @property
    def n_signals(self) -> int:
        """One."""
        return 1

    def __call__(self, found: Retrieved) -> Float[Tensor, ""]:
        """The loss over the questions that have passages, times their share of the batch."""
        reader = _given(found.reader)
        kept = found.mask.any(dim=-1)
        if not bool(kept.any()):
            found.figures.update(self._target_figures(None))
            return found.query_vectors.sum() * 0.0
        asked = found.asked if bool(kept.all()) else found.asked.take(kept.nonzero().flatten().tolist())
        feedback = _kept(self.signal(reader, asked), found.scores.device)
        scale = math.sqrt(found.encoder.dim) if self.score_scale == "sqrt_dim" else 1.0
        extra = {} if feedback.token_mask is None else {"token_mask": feedback.token_mask}
        scores = found.scores[kept]
        found.figures.update(self._target_figures(feedback.values))
        loss = self.loss(scores / scale, _as_wide(feedback.values, scores), **extra)
        share = float(kept.float().mean())
        return loss * (share / scores.shape[1] if self.per_passage else share)

    def _target_figures(self, values: Float[Tensor, "query passage *token"] | None) -> dict[str, float]:
        """How much the target of a distillation tells passages apart, under the signal's name; 0 without passages.

        The names are the same for every batch: all processes add up the same figures.
        """
        if getattr(self.loss, "func", self.loss) is not distillation_kl:
            return {}
        temperature = getattr(self.loss, "keywords", {}).get("feedback_temperature", 1.0)
        share = 0.0 if values is None else top_share(values, temperature=temperature)
        return {described(self.signal)["name"] + _TOP_SHARE: share}


def top_share(values: Float[Tensor, "query passage"], *, temperature: float = 1.0) -> float:
    """The largest share of ``softmax(values / temperature)``, averaged over queries: 1 / passages says nothing.

    >>> import torch
    >>> round(top_share(torch.tensor([[0.0, 1.0986123], [0.0, 0.0]])), 4)  # 3/4 and 1/2
    0.625
    """
    with torch.no_grad():
        shares: list[float] = (values.float() / temperature).softmax(dim=-1).amax(dim=-1).tolist()
    return sum(shares) / len(shares)


def warn_of_flat_targets(figures: Mapping[str, float], *, k: int) -> None:
    """Say that a target is nearly the same for all passages, which teaches the retriever that they are.

    Why at all: a temperature that fits one reader's attention is far too high for another's, and the run goes on.
    """
    for name, share in figures.items():
        if name.endswith(_TOP_SHARE) and 0 < share < _FLAT / k and distributed.is_main():
            log.warning(
                "the reader's feedback hardly tells the %d passages apart (%s %.3f, %.3f would be equal shares): such "
                "a target makes the retriever's scores equal; lower task.loss.loss.feedback_temperature, or look "
                "whether the index finds passages with answers at all (docs/atlas.md)",
                *(k, name, share, 1 / k),
            )


@dataclass(frozen=True, slots=True)
class GoldObjective:
    """DPR's contrastive loss on gold passages: the first of each question against those of the whole batch.

    For a run that has some gold passages beside the reader's feedback; a question without one adds 0.
    """

    temperature: float = 1.0

    def check(self, reader: Reader | None, asked: AnsweredQuestions) -> None:
        """It asks no reader."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its temperature."""
        return {"loss": "contrastive", "temperature": self.temperature}

    @property
    def n_signals(self) -> int:
        """None."""
        return 0

    def __call__(self, found: Retrieved) -> Float[Tensor, ""]:
        """The loss over the questions with a gold passage, times their share of the batch."""
        rows = [row for row, item in enumerate(found.items) if any(p.text.strip() for p in item.positives)]
        if len(rows) < 2:  # noqa: PLR2004  one passage has nothing to be told from
            return found.query_vectors.sum() * 0.0
        items = [found.items[row] for row in rows]
        gold = [next(p for p in item.positives if p.text.strip()) for item in items]
        vectors = found.encoder.passage_vectors(gold)
        mask = ~is_gold(passage_keys(gold), gold_keys(items)).to(vectors.device)
        positives = torch.arange(len(rows), device=vectors.device)
        queries = found.query_vectors[torch.tensor(rows, device=vectors.device)]
        loss = contrastive(queries, vectors, positives, temperature=self.temperature, mask=mask)
        return loss * (len(rows) / len(found.items))


@dataclass(frozen=True, slots=True)
class Weighted:
    """One objective of a sum, with its weight."""

    objective: Objective
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ConfigError(f"the weight of an objective must be 0 or more, not {self.weight}")


@dataclass(frozen=True, slots=True)
class ObjectiveSum:
    """Several objectives at once: ``sum_i weight_i objective_i``; all that ask the reader share its encodings."""

    objectives: Mapping[str, Weighted]

    def check(self, reader: Reader | None, asked: AnsweredQuestions) -> None:
        """Each by itself."""
        for one in self.objectives.values():
            one.objective.check(reader, asked)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of each, by name, with its weight."""
        return {name: {**one.objective.settings, "weight": one.weight} for name, one in sorted(self.objectives.items())}

    @property
    def n_signals(self) -> int:
        """Those of all that have a weight."""
        return sum(one.objective.n_signals for one in self.objectives.values() if one.weight)

    def __call__(self, found: Retrieved) -> Float[Tensor, ""]:
        """The weighted sum."""
        if self.n_signals > 1 and bool(found.mask.any()):
            found = replace(found, asked=encoded(_given(found.reader), found.asked))
        terms = [one.weight * one.objective(found) for one in self.objectives.values() if one.weight]
        return torch.stack(terms).sum() if terms else found.query_vectors.sum() * 0.0


def _given(reader: Reader | None) -> Reader:
    if reader is None:
        raise ConfigError("this objective is a reader's feedback, and there is no reader; give reader=RUN")
    return reader


def described(function: Callable[..., Any]) -> dict[str, Any]:
    """The name of a function, or of a partial's, and the options given."""
    named = getattr(function, "func", function)
    return {"name": getattr(named, "__name__", str(named)), **getattr(function, "keywords", {})}


def _kept(feedback: Feedback, device: torch.device) -> Feedback:
    mask = None if feedback.token_mask is None else feedback.token_mask.to(device)
    return replace(feedback, values=feedback.values.to(device), token_mask=mask)


def _as_wide(
    values: Float[Tensor, "query found *token"], scores: Float[Tensor, "query passage"]
) -> Float[Tensor, "query passage *token"]:
    """The feedback with -inf in the columns that no question of the batch fills."""
    missing = scores.shape[1] - values.shape[1]
    if not missing:
        return values
    return torch.cat([values, values.new_full((len(values), missing, *values.shape[2:]), -torch.inf)], dim=1)
