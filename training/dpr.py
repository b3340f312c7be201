"""DPR's training of a dual encoder: a question's positive against the passages of the whole batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ragkit.corpus import PassageStore
from ragkit.distributed import gather_rows, row_offset
from ragkit.errors import ConfigError
from ragkit.losses import contrastive
from ragkit.retriever import DualEncoder
from ragkit.types import Example, Passage

from .data import DataFiles, load_questions
from .gradcache import cached_backward
from .pool import pool_figures
from .questions import digest, draw_passages, gold_keys, is_gold, passage_keys, usable_questions
from .task import Backward

log = logging.getLogger(__name__)

Loss = Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class DprOptions:
    """How questions become batches.

    ``negatives``: hard negatives a question (fewer where it has fewer). ``draw`` "random" takes another positive and
    other negatives in each epoch, "first" always the first. ``chunk``: passages encoded at a time by GradCache; None
    encodes the batch in one piece. ``dev_negatives``: hard negatives of each dev question in the pool it is ranked in.
    """

    negatives: int = 1
    draw: Literal["random", "first"] = "random"
    chunk: int | None = None
    dev_negatives: int = 5

    def __post_init__(self) -> None:
        if self.negatives < 0 or self.dev_negatives < 0:
            raise ConfigError(f"negatives and dev_negatives must be 0 or more: {self.negatives}, {self.dev_negatives}")
        if self.chunk is not None and self.chunk < 1:
            raise ConfigError(f"chunk must be 1 passage or more, or null for no GradCache, not {self.chunk}")


@dataclass(frozen=True, slots=True)
class DprBatch:
    """This process's questions and passages: each question's positive first, then all hard negatives."""

    questions: list[str]
    passages: list[Passage]
    keys: Int64[Tensor, "passage 2"]
    gold: Int64[Tensor, "query gold"]


class DprTask:
    """A :class:`~.task.Task`: the encoder, the training questions, the dev questions and the loss."""

    def __init__(
        self,
        encoder: DualEncoder,
        *,
        train: Sequence[Example],
        dev: Sequence[Example] = (),
        loss: Loss = contrastive,
        options: DprOptions | None = None,
    ) -> None:
        self.encoder, self.items, self._dev, self._loss = encoder, train, dev, loss
        self.options = options or DprOptions()
        if len({example.positives[0].id for example in train}) < 2 and not any(e.hard_negatives for e in train):  # noqa: PLR2004
            raise ConfigError(
                f"{len(train)} questions with one positive passage and no hard negatives leave nothing to tell apart: "
                "the loss would be 0 at every step; add questions or hard negatives (ragkit mine)"
            )

    @classmethod
    def from_files(
        cls,
        model: object,
        *,
        data: DataFiles,
        index_dir: Path | None = None,
        loss: Loss = contrastive,
        options: DprOptions | None = None,
    ) -> DprTask:
        """The task of question files; the store of ``index_dir`` gives texts to passages that have only an id.

        The index's own vectors and encoder are not used. Questions without a positive are dropped and counted.
        """
        if not isinstance(model, DualEncoder):
            raise ConfigError(f"experiment=dpr trains a dual encoder, not {type(model).__name__}; try retriever=minilm")
        if data.train is None:
            raise ConfigError("experiment=dpr needs questions: data.train=FILE")
        store = PassageStore.open(index_dir / "corpus") if index_dir is not None else None
        train, counts = usable_questions(load_questions(data.train), store=store)
        log.info("train: %s", counts)
        dev: list[Example] = []
        if data.dev is not None:
            dev, counts = usable_questions(load_questions(data.dev), store=store)
            log.info("dev: %s", counts)
        return cls(model, train=train, dev=dev, loss=loss, options=options)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The encoder."""
        return {"retriever": self.encoder}

    @property
    def settings(self) -> Mapping[str, Any]:
        """Data, encoder, loss and options, without those of the evaluation."""
        options = asdict(self.options)
        del options["dev_negatives"]
        named = getattr(self._loss, "func", self._loss)
        loss = {"name": getattr(named, "__name__", str(named)), **getattr(self._loss, "keywords", {})}
        model = {"reference": self.encoder.reference, **self.encoder.options.to_dict()}
        return {"task": "dpr", "data": digest(self.items), "model": model, "loss": loss, **options}

    def collate(self, items: Sequence[Example], *, generator: torch.Generator) -> DprBatch:
        """One positive and the hard negatives of every question."""
        options, seed = self.options, generator.initial_seed()
        drawn = [draw_passages(item, negatives=options.negatives, draw=options.draw, seed=seed) for item in items]
        passages = [positive for positive, _ in drawn] + [passage for _, negatives in drawn for passage in negatives]
        return DprBatch([item.question for item in items], passages, passage_keys(passages), gold_keys(items))

    def backward(self, batch: DprBatch, *, backward: Backward) -> dict[str, float]:
        """The contrastive loss of this process's questions over the passages of all processes."""
        encoder, chunk, hits = self.encoder, self.options.chunk, 0.0

        def loss_of(vectors: Sequence[Tensor]) -> Tensor:
            nonlocal hits
            value, hits = self._loss_and_hits(vectors[0], vectors[1], batch)
            return value

        if chunk is None:
            loss = loss_of([encoder.query_vectors(batch.questions), encoder.passage_vectors(batch.passages)])
            backward(loss)
        else:
            queries = [_partial(encoder.query_vectors, part) for part in _chunks(batch.questions, chunk)]
            passages = [_partial(encoder.passage_vectors, part) for part in _chunks(batch.passages, chunk)]
            loss = cached_backward([queries, passages], loss_of, backward=backward, device=encoder.device)
        return {"loss": float(loss.detach()), "hit": hits}

    def _loss_and_hits(
        self, queries: Float[Tensor, "query dim"], passages: Float[Tensor, "passage dim"], batch: DprBatch
    ) -> tuple[Tensor, float]:
        everywhere = gather_rows(passages)
        positives = torch.arange(len(queries), device=queries.device) + row_offset(len(passages))
        keys = gather_rows(batch.keys.to(queries.device))
        mask = ~is_gold(keys, batch.gold.to(queries.device))
        loss = self._loss(queries, everywhere, positives, mask=mask)
        with torch.no_grad():
            scores = (queries.float() @ everywhere.float().T).masked_fill(~mask, -torch.inf)
            own = (queries.float() * everywhere[positives].float()).sum(dim=-1)
            return loss, float((scores.amax(dim=-1) < own).float().mean())

    def evaluate(self) -> dict[str, float]:
        """Where the best positive of each dev question ranks among the positives and hard negatives of all of them."""
        return pool_figures(self.encoder, self._dev, negatives=self.options.dev_negatives) if self._dev else {}

    def export(self, out: Path) -> None:
        """Write OUT/retriever, which sentence-transformers opens too."""
        self.encoder.save_pretrained(out / "retriever")


def _chunks(values: Sequence[Any], size: int) -> list[list[Any]]:
    return [list(values[start : start + size]) for start in range(0, len(values), size)]


def _partial(encode: Callable[[Any], Tensor], part: list[Any]) -> Callable[[], Tensor]:
    return lambda: encode(part)
