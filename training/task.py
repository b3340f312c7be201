"""What the loop needs to know of what is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Backward = Callable[[Tensor], None]


@runtime_checkable
class Task(Protocol):
    """What is trained, on what, by which loss.

    A plain class with these attributes and methods will do; nothing is inherited. One whose model begins with random
    weights also has ``starts_trained = False``: they are evaluated, but never exported as the best.
    """

    @property
    def items(self) -> Sequence[Any]:
        """The training data: any random-access sequence."""
        ...

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """All that has weights or buffers to save, by name; parameters that want a gradient are trained."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the losses depend on beside the policy, as JSON values: a resumed run must have the same."""
        ...

    def collate(self, items: Sequence[Any], *, generator: torch.Generator) -> Any:
        """One batch of this process's items (never none).

        ``generator`` has the same seed in every process and part of a step; for draws that do not depend on how a
        batch is divided, derive them from ``generator.initial_seed()`` and the item.
        """
        ...

    def backward(self, batch: Any, *, backward: Backward) -> dict[str, float]:
        """Compute the **mean over this process's items** of the loss and call ``backward`` on it; runs in autocast.

        The loop weighs it by this process's share of the items and adds the gradients of all processes. Returns
        figures to log, "loss" among them, each a mean over the items too.
        """
        ...

    def evaluate(self) -> dict[str, float]:
        """Figures on the dev data, no gradient wanted; {} without dev data. The main process runs it alone."""
        ...

    def export(self, out: Path) -> None:
        """Write the trained model into the run's folder: OUT/retriever or OUT/reader."""
        ...


@runtime_checkable
class Paced(Protocol):
    """What a task may have beside: something that happens between updates, with a state of its own.

    A resumed run calls :meth:`restore` and then :meth:`begin` for its next update, a new one :meth:`begin` for 0.
    """

    def begin(self, update: int) -> Mapping[str, Any]:
        """Do what is due before the update that follows ``update`` finished ones; JSON values for the log, or {}."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What :meth:`restore` needs, as JSON values; taken with every checkpoint, after the update."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint's state."""
        ...

    def finish(self) -> None:
        """The weights to export are in place, in every process: bring the rest in line with them."""
        ...

    def close(self) -> None:
        """The end of the run, or of the process: stop what runs in the background."""
        ...


def starts_trained(task: Task) -> bool:
    """Whether the weights that a run begins with are worth keeping, which is so unless the task says otherwise."""
    return bool(getattr(task, "starts_trained", True))
