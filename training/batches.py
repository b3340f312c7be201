"""The order of the data: a function of the seed and the step, so that a position is one number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int64

from ragkit.errors import ConfigError
from ragkit.seeding import make_generator

Indices = Int64[np.ndarray, " item"]


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Which items each update sees: every item once an epoch, in an order of that epoch's own.

    The batches of an epoch differ by at most one item (119 batches of 15 or 16, not 118 of 16 and one of 8), so no
    update rests on a small rest; the order does not depend on the number of processes.
    """

    items: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Updates in one pass over the items."""
        return -(-self.items // self.batch_size)

    @property
    def smallest(self) -> int:
        """Items in the smallest batch."""
        return self.items // self.steps_per_epoch

    def epoch(self, step: int) -> int:
        """The epoch, from 0, that update ``step`` (from 0) belongs to."""
        return step // self.steps_per_epoch

    def batch(self, step: int) -> Indices:
        """The items of update ``step``, counted from 0."""
        order = _order(self.items, self.seed, self.epoch(step))
        return np.array_split(order, self.steps_per_epoch)[step % self.steps_per_epoch]

    def shares(self, step: int, *, parts: int, rank: int, world: int) -> list[Indices]:
        """This process's share of each of the ``parts`` (accumulation) of update ``step``."""
        return [np.array_split(part, world)[rank] for part in np.array_split(self.batch(step), parts)]

    def check(self, *, parts: int, world: int) -> None:
        """Raise ConfigError where some batch cannot give every process an item of every part."""
        if self.items == 0:
            raise ConfigError("there is nothing to train on: 0 items are left after reading the data")
        if self.smallest < parts * world:
            raise ConfigError(
                f"a batch of {self.smallest} items cannot be divided among {world} processes times {parts} parts; "
                "raise batch_size, or lower accumulate or the number of processes"
            )


@lru_cache(maxsize=2)  # every step of an epoch asks for the same one
def _order(items: int, seed: int, epoch: int) -> Indices:
    generator = make_generator(seed, "order", epoch)
    return torch.randperm(items, generator=generator).numpy().astype(np.int64)
