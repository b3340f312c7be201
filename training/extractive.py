"""Training DPR's extractive reader: one positive and some negatives a question, drawn anew in every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from ragkit.errors import ConfigError
from ragkit.losses import marginal_span, passage_selection
from ragkit.metrics import exact_match, f1, has_answer
from ragkit.reader import ExtractiveReader, ReaderBatch, pad_spans
from ragkit.seeding import make_generator
from ragkit.types import Example, Passage, ScoredPassage

from .data import DataFiles
from .hits import load_with_hits
from .modules import freeze_layers, set_dropout, weights_digest
from .reading import ReadingItem, ReadingOptions, answer_spans, items_digest, log_counts, reading_items, unique


@dataclass(frozen=True, slots=True)
class ReadingBatch:
    """Questions with their passages, the positive in column 0, and the answer's places in it."""

    inputs: ReaderBatch
    spans: Int64[Tensor, "query span 2"]


class ExtractiveTask:
    """A :class:`~.loop.Task`: the reader, its training items, and dev questions with their passages.

    Passages come from the examples alone: attach what an index finds as their ``retrieved`` (:func:`~.hits.with_hits`).
    """

    def __init__(
        self,
        reader: ExtractiveReader,
        *,
        train: Sequence[Example],
        dev: Sequence[Example] = (),
        options: ReadingOptions | None = None,
    ) -> None:
        self.reader, self.options = reader, options or ReadingOptions()
        self.items, self.counts = reading_items(train, reader.inputs, options=self.options)
        log_counts(self.counts)
        self.starts_trained = reader.is_trained  # random heads must not be exported, however bad the trained ones are
        self._weights_digest = weights_digest(reader)
        set_dropout(reader, self.options.dropout)
        if self.options.frozen_layers:
            freeze_layers(reader.model.base_model, self.options.frozen_layers)
        self._dev = list(dev)
        self._dev_passages = [_dev_passages(example)[: self.options.dev_passages] for example in dev]

    @classmethod
    def from_files(
        cls,
        reader: ExtractiveReader,
        *,
        data: DataFiles,
        index_dir: Path | None = None,
        k: int = 50,
        options: ReadingOptions | None = None,
    ) -> ExtractiveTask:
        """The task of question files; with ``index_dir``, the ``k`` passages it finds join those that a file brings.

        Raises ConfigError where the reader cannot be trained this way, or no questions are given.
        """
        if not isinstance(reader, ExtractiveReader):
            raise ConfigError(
                f"experiment=extractive trains an extractive reader, not {type(reader).__name__}; try reader=minilm"
            )
        train, dev = load_with_hits(data, index_dir=index_dir, k=k)
        return cls(reader, train=train, dev=dev, options=options)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The reader."""
        return {"reader": self.reader}

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the loss depends on: data, the weights that it began with, limits and passages of a question."""
        return {
            "task": "extractive",
            "data": items_digest(self.items),
            "model": {"reference": self.reader.reference, "weights": self._weights_digest},
            "inputs": asdict(self.reader.inputs.options),
            "n_passages": self.options.n_passages,
            "n_spans": self.options.n_spans,
            "max_positives": self.options.max_positives,
            "dropout": self.options.dropout,
            "frozen_layers": self.options.frozen_layers,
        }

    def collate(self, items: Sequence[ReadingItem], *, generator: torch.Generator) -> ReadingBatch:
        """The passages of each item, drawn from the generator's seed and the item's number alone.

        An item short of negatives is filled with other questions' positives that do not contain its answer.
        """
        inputs = self.reader.inputs
        seed = generator.initial_seed()
        chosen = [self._draw(item, generator=make_generator(seed, "passages", item.number)) for item in items]
        questions = inputs.questions([item.question for item in items]).ids
        flat = inputs.pairs(
            [question for question, line in zip(questions, chosen, strict=True) for _ in line],
            [passage for line in chosen for passage in line],
        )
        encoded = iter(flat)
        lines = [[next(encoded) for _ in line] for line in chosen]
        spans = [
            answer_spans(line[0], item, inputs=inputs, limit=self.options.n_spans)
            for item, line in zip(items, chosen, strict=True)
        ]
        return ReadingBatch(inputs.batch(lines), pad_spans(spans))

    def _draw(self, item: ReadingItem, *, generator: torch.Generator) -> list[Passage]:
        """The positive first, then the negatives."""
        wanted = self.options.n_passages - 1
        positive = item.positives[int(torch.randint(len(item.positives), (), generator=generator))]
        order = torch.randperm(len(item.negatives), generator=generator).tolist()
        negatives = [item.negatives[row] for row in order[:wanted]]
        for row in torch.randint(len(self.items), (4 * wanted,), generator=generator).tolist():
            if len(negatives) == wanted:
                break
            other = self.items[row].positives[0]
            if other not in negatives and not has_answer(other.text, item.answers):
                negatives.append(other)
        return [positive, *negatives]

    def backward(self, batch: ReadingBatch, *, backward: Callable[[Tensor], None]) -> dict[str, float]:
        """DPR's reader loss (:func:`ragkit.losses.extractive`), averaged over the questions, and its two parts."""
        inputs, spans = batch.inputs.to(self.reader.device), batch.spans.to(self.reader.device)
        scores = self.reader(inputs.ids, inputs.mask, inputs.segments)
        positives = torch.zeros(len(spans), dtype=torch.int64, device=spans.device)
        selection = passage_selection(scores.selection, positives)
        span = marginal_span(scores.start[:, 0], scores.end[:, 0], spans)
        loss = selection + span
        backward(loss)
        return {"loss": loss.item(), "selection_loss": selection.item(), "span_loss": span.item()}

    def evaluate(self) -> dict[str, float]:
        """EM and F1 on the dev questions, and the share of them whose selected passage contains an answer.

        A question is read from its retrieved passages where there are any, else from its positives and hard
        negatives: then one passage always answers, and the figures say nothing about open questions.
        """
        if not self._dev:
            return {}
        predictions = self.reader.answer([example.question for example in self._dev], self._dev_passages)
        pairs = list(zip(predictions, self._dev, strict=True))
        selected = [
            float(bool(found.evidence) and has_answer(found.evidence[0].passage.text, example.answers))
            for found, example in pairs
        ]
        return {
            "exact_match": _mean([exact_match(found.text, example.answers) for found, example in pairs]),
            "f1": _mean([f1(found.text, example.answers) for found, example in pairs]),
            "selected_has_answer": _mean(selected),
        }

    def export(self, out: Path) -> None:
        """Write ``out/reader``."""
        self.reader.save_pretrained(out / "reader")


def _dev_passages(example: Example) -> list[ScoredPassage]:
    """The retrieved passages, or else the file's own, gold ones first: the reader does not see the order."""
    if example.retrieved:
        return list(example.retrieved)
    own = [passage for passage in unique([*example.positives, *example.hard_negatives]) if passage.text]
    return [ScoredPassage(passage, 0.0) for passage in own]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
