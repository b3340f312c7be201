"""Training a generative reader (FiD, FiDO, causal): the likelihood of a gold answer, given a question's passages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ragkit.errors import ConfigError
from ragkit.metrics import exact_match, f1
from ragkit.reader.protocol import Reader, ScoringReader
from ragkit.types import Example, Passage

from .answering import (
    GenerativeBatch,
    GenerativeItem,
    GenerativeOptions,
    dev_passages,
    draw_batch,
    generative_items,
    items_digest,
    log_counts,
)
from .data import DataFiles
from .hits import load_with_hits
from .modules import TrainedPart, encoder_of, freeze_layers, freeze_words, set_dropout, weights_digest

_SCORED = 32  # dev questions whose answers are scored at once

# what of the options the losses do not depend on
_FREE = ("dev_passages", "dev_questions", "gradient_checkpointing")


@runtime_checkable
class GenerativeReader(ScoringReader, Protocol):
    """A reader that writes its answers and can be taught to: a ``torch.nn.Module`` whose ``model`` is transformers'."""

    reference: str
    options: Any  # a dataclass: how it makes its inputs

    def answer_nll(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        answers: Sequence[str],
        *,
        label_smoothing: float = 0.0,
    ) -> Float[Tensor, ""]:
        """Mean over questions of the mean over the answer's tokens (the end included) of -log p, with gradient."""
        ...

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        ...


class GenerativeTask:
    """A :class:`~.loop.Task`: the reader, its training items, and dev questions with their passages.

    Passages come from the examples alone: attach what an index finds as their ``retrieved``
    (:func:`~.hits.with_hits`).
    """

    def __init__(
        self,
        reader: GenerativeReader,
        *,
        train: Sequence[Example],
        dev: Sequence[Example] = (),
        options: GenerativeOptions | None = None,
    ) -> None:
        self.reader, self.options = reader, options or GenerativeOptions()
        module = _module(reader)
        self.items, self.counts = generative_items(train, options=self.options)
        log_counts(self.counts, options=self.options)
        self.starts_trained = bool(getattr(reader, "is_trained", True))
        self._weights_digest = weights_digest(module)
        _prepare(module, reader, self.options)
        self._trained = TrainedPart(module)
        self._dev = list(dev)[: self.options.dev_questions]
        self._dev_passages = [dev_passages(example, options=self.options) for example in self._dev]

    @classmethod
    def from_files(
        cls,
        reader: Reader,
        *,
        data: DataFiles,
        index_dir: Path | None = None,
        k: int = 20,
        options: GenerativeOptions | None = None,
    ) -> GenerativeTask:
        """The task of question files; with ``index_dir``, the ``k`` passages it finds join those that a file brings.

        Raises ConfigError where the reader writes no answers, or no questions are given.
        """
        if not isinstance(reader, GenerativeReader):
            raise ConfigError(
                f"this experiment trains a reader that writes its answers, not {type(reader).__name__}; try reader=fid "
                "or reader=causal (experiment=extractive trains an extractive reader)"
            )
        train, dev = load_with_hits(data, index_dir=index_dir, k=k)
        return cls(reader, train=train, dev=dev, options=options)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The reader; its checkpoints hold what is trained."""
        return {"reader": self._trained}

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the loss depends on: data, the weights that it began with, the reader's inputs and the draws."""
        options = {name: value for name, value in asdict(self.options).items() if name not in _FREE}
        return {
            "task": "generative",
            "data": items_digest(self.items),
            "model": {"reference": self.reader.reference, "weights": self._weights_digest},
            "inputs": asdict(self.reader.options),
            **options,
        }

    def collate(self, items: Sequence[GenerativeItem], *, generator: torch.Generator) -> GenerativeBatch:
        """The items' passages and answers, drawn from the generator's seed and the item's number alone."""
        return draw_batch(items, options=self.options, seed=generator.initial_seed())

    def backward(self, batch: GenerativeBatch, *, backward: Callable[[Tensor], None]) -> dict[str, float]:
        """The negative log-likelihood per answer token, averaged over the questions (label smoothing included)."""
        loss = self.reader.answer_nll(
            batch.questions, batch.passages, batch.answers, label_smoothing=self.options.label_smoothing
        )
        backward(loss)
        return {"loss": loss.item(), "passages": sum(map(len, batch.passages)) / len(batch.passages)}

    def evaluate(self) -> dict[str, float]:
        """EM and F1 of the answers the reader writes to the dev questions, and the ``nll`` of their first gold answer.

        ``nll`` is per token, averaged over the questions; smaller is better, so it is no ``policy.save.metric``.
        """
        if not self._dev:
            return {}
        predictions = self.reader.answer([example.question for example in self._dev], self._dev_passages)
        pairs = list(zip(predictions, self._dev, strict=True))
        found = {
            "exact_match": _mean([exact_match(found.text, example.answers) for found, example in pairs]),
            "f1": _mean([f1(found.text, example.answers) for found, example in pairs]),
        }
        likelihoods = [value for begin in range(0, len(self._dev), _SCORED) for value in self._log_likelihoods(begin)]
        return {**found, "nll": -_mean(likelihoods)}

    def _log_likelihoods(self, begin: int) -> list[float]:
        """Mean log-likelihood of the answer's tokens, for some dev questions."""
        dev, passages = self._dev[begin : begin + _SCORED], self._dev_passages[begin : begin + _SCORED]
        scored = self.reader.log_likelihood(
            [example.question for example in dev],
            [[hit.passage for hit in hits] for hits in passages],
            [example.target or example.answers[0] for example in dev],
        )
        return [float(value) for value in scored.means[:, 0]]

    def export(self, out: Path) -> None:
        """Write ``out/reader``."""
        self.reader.save_pretrained(out / "reader")


def _module(reader: GenerativeReader) -> nn.Module:
    if not isinstance(reader, nn.Module):
        raise ConfigError(f"{type(reader).__name__} is no torch module, so it has nothing to train")
    return reader


def _prepare(module: nn.Module, reader: GenerativeReader, options: GenerativeOptions) -> None:
    """Set dropout, freeze, and switch checkpointing on."""
    if options.dropout is not None:
        set_dropout(module, options.dropout)
    if options.frozen_encoder:
        encoder_of(module).requires_grad_(False)
    elif options.frozen_layers:
        freeze_layers(encoder_of(module), options.frozen_layers)
    if options.frozen_words:
        freeze_words(module)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError(
            f"every weight of {reader.reference or type(reader).__name__} is frozen, so there is nothing to train; "
            "set task.options.frozen_encoder=false, or fewer frozen_layers"
        )
    if options.gradient_checkpointing:
        reader.enable_gradient_checkpointing()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
