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


def starts_trained(task: Task) -> bool:
    """Whether the weights that a run begins with are worth keeping, which is so unless the task says otherwise."""
    return bool(getattr(task, "starts_trained", True))
