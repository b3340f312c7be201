"""Contriever's unsupervised training: two crops of one passage belong together (Izacard et al. 2022)."""

from __future__ import annotations

import logging
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ragkit.corpus import PassageStore, store_corpus
from ragkit.distributed import gather_rows, row_offset
from ragkit.errors import ConfigError
from ragkit.losses import contrastive
from ragkit.retriever import DualEncoder
from ragkit.seeding import make_generator
from ragkit.types import Passage

from .crops import CropPolicy, two_crops
from .data import DataFiles
from .momentum import MomentumQueue
from .pool import figures_of_ranks, gold_ranks
from .task import Backward

log = logging.getLogger(__name__)

Loss = Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class ContrieverOptions:
    """How passages become pairs.

    ``queue`` 0 takes the negatives from the batch alone; above 0 it is the length of a momentum queue, whose slow
    encoder (``momentum``) makes the second view. ``held_out`` passages (or all of data.dev) are evaluated on, not
    trained on.
    """

    crops: CropPolicy
    queue: int = 0
    momentum: float = 0.9995
    held_out: int = 256

    def __post_init__(self) -> None:
        if self.queue < 0 or self.held_out < 0:
            raise ConfigError(f"queue and held_out must be 0 or more: {self.queue}, {self.held_out}")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must be at least 0 and below 1, not {self.momentum}")


class Rows(Sequence[str]):
    """Some rows of a store as texts, read when asked for."""

    def __init__(self, store: PassageStore, rows: np.ndarray) -> None:
        self.store, self.rows = store, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        (passage,) = self.store.take([int(self.rows[place])])
        return passage.text if passage.text.strip() else passage.title


class ContrieverTask:
    """A :class:`~.task.Task`: the encoder and the texts; positives are two crops of a text, negatives other texts'."""

    def __init__(
        self, encoder: DualEncoder, *, train: Sequence[str], dev: Sequence[str], options: ContrieverOptions, loss: Loss
    ) -> None:
        self.encoder, self.items, self._dev, self.options, self._loss = encoder, train, dev, options, loss
        self._queue: MomentumQueue | None = None
        if options.queue:
            self._queue = MomentumQueue(encoder, dim=encoder.dim, size=options.queue, momentum=options.momentum)

    @classmethod
    def from_files(  # noqa: PLR0913  what the configuration gives
        cls,
        model: object,
        *,
        data: DataFiles,
        options: ContrieverOptions,
        loss: Loss = contrastive,
        index_dir: Path | None = None,
    ) -> ContrieverTask:
        """The task of a corpus file (``data.train``, any format of ``ragkit index``) or of an index's store."""
        if not isinstance(model, DualEncoder):
            raise ConfigError(f"experiment=contriever trains a dual encoder, not {type(model).__name__}")
        if (data.train is None) == (index_dir is None):
            raise ConfigError("experiment=contriever needs passages: either data.train=CORPUS_FILE or index_dir=DIR")
        if isinstance(data.train, list) or isinstance(data.dev, list):
            raise ConfigError("experiment=contriever reads one corpus: give a folder that holds the files")
        store = PassageStore.open(index_dir / "corpus") if index_dir is not None else _stored(str(data.train))
        order = torch.randperm(len(store), generator=make_generator(0, "held out")).numpy()
        held_out = 0 if data.dev is not None else min(options.held_out, len(store) // 10)
        dev: Sequence[str] = Rows(store, order[:held_out])
        if data.dev is not None:
            dev_store = _stored(data.dev)
            dev = Rows(dev_store, np.arange(len(dev_store)))
        train = Rows(store, np.sort(order[held_out:]))
        log.info("%d passages to train on, %d held out to evaluate on", len(train), len(dev))
        return cls(model, train=train, dev=dev, options=options, loss=loss)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The encoder, and the slow one with its queue."""
        return {"retriever": self.encoder, **({"queue": self._queue} if self._queue is not None else {})}

    @property
    def settings(self) -> Mapping[str, Any]:
        """Data, encoder and options."""
        digest = self.items.store.digest[:16] if isinstance(self.items, Rows) else str(len(self.items))
        model = {"reference": self.encoder.reference, **self.encoder.options.to_dict()}
        loss = dict(getattr(self._loss, "keywords", {}))
        return {"task": "contriever", "data": digest, "model": model, "loss": loss, **asdict(self.options)}

    def collate(self, items: Sequence[str], *, generator: torch.Generator) -> list[tuple[str, str]]:
        """Two crops of every text; they depend on the seed and the text alone."""
        seed = generator.initial_seed()
        return [two_crops(text, self.options.crops, generator=make_generator(seed, "crops", text)) for text in items]

    def backward(self, batch: list[tuple[str, str]], *, backward: Backward) -> dict[str, float]:
        """The contrastive loss of the first crops against the second crops of all processes, and the queue."""
        queries = self.encoder.query_vectors([first for first, _ in batch])
        keys = self._keys([_as_passage(second) for _, second in batch])
        everywhere = gather_rows(keys)
        positives = torch.arange(len(queries), device=queries.device) + row_offset(len(keys))
        candidates, mask = everywhere, None
        if self._queue is not None:
            queued, is_filled = self._queue.negatives()
            candidates = torch.cat([everywhere, queued])
            is_there = torch.cat([torch.ones(len(everywhere), dtype=torch.bool, device=is_filled.device), is_filled])
            mask = is_there.expand(len(queries), -1)
        loss = self._loss(queries, candidates, positives, mask=mask)
        backward(loss)
        if self._queue is not None:
            self._queue.push(everywhere.detach())
        return {"loss": float(loss.detach())}

    def _keys(self, passages: Sequence[Passage]) -> Float[Tensor, "passage dim"]:
        if self._queue is None:
            return self.encoder.passage_vectors(passages)
        self._queue.follow(self.encoder)
        slow = self._queue.encoder
        if not isinstance(slow, DualEncoder):
            raise TypeError(f"the slow encoder is a DualEncoder; got {type(slow).__name__}")
        with torch.no_grad():
            return slow.passage_vectors(passages).float()

    def evaluate(self) -> dict[str, float]:
        """Where the second crop of each held-out text ranks for the first among those of all held-out texts."""
        if len(self._dev) < 2:  # noqa: PLR2004  one text has no others to be told from
            return {}
        generator = make_generator(0, "dev crops")
        pairs = [two_crops(text, self.options.crops, generator=generator) for text in self._dev]
        queries = torch.from_numpy(self.encoder.encode_queries([first for first, _ in pairs]))
        passages = torch.from_numpy(self.encoder.encode_passages([_as_passage(second) for _, second in pairs]))
        return figures_of_ranks(gold_ranks(queries @ passages.T, torch.eye(len(pairs), dtype=torch.bool)))

    def export(self, out: Path) -> None:
        """Write OUT/retriever, which sentence-transformers opens too."""
        self.encoder.save_pretrained(out / "retriever")


def _as_passage(text: str) -> Passage:
    return Passage("", text)


def _stored(path: str) -> PassageStore:
    """A corpus file as a store: in a temporary folder, which goes when the store does."""
    folder = tempfile.TemporaryDirectory(prefix="ragkit-")
    store = store_corpus(path, Path(folder.name) / "corpus")
    weakref.finalize(store, folder.cleanup)
    return store
