"""The complete state of a run as tensors and JSON, and back: weights, optimizer, counters, what it was made with."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ragkit.checkpoint import Checkpoint, newest_checkpoint, point, prune_checkpoints, write_checkpoint
from ragkit.errors import CheckpointError

from .task import Paced

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Progress:
    """How far a run is: finished steps, steps skipped for a loss that was not finite, and the best evaluation."""

    step: int = 0
    skipped: int = 0
    best_step: int | None = None
    best: float | None = None


@dataclass(frozen=True, slots=True)
class RunState:
    """All that changes while a run trains, and ``settings``: what its losses depend on, for comparison.

    ``paced`` is the task where it has a state of its own.
    """

    modules: Mapping[str, nn.Module]
    optimizer: torch.optim.Optimizer
    settings: Mapping[str, Any]
    progress: Progress
    paced: Paced | None = None

    def save(self, folder: Path, *, keep: int, is_best: bool) -> None:
        """Write a checkpoint of this moment, move the links, delete what is older than ``keep``."""
        tensors, aliases = {}, {}
        for name, module in self.modules.items():
            tensors[name], aliases[name] = _unique(module)
        tensors["optimizer"], numbers = _flatten(self.optimizer)
        state = {
            "progress": asdict(self.progress),
            "settings": dict(self.settings),
            "aliases": aliases,
            "optimizer": numbers,
            **({"paced": dict(self.paced.state())} if self.paced is not None else {}),
        }
        target = write_checkpoint(folder, step=self.progress.step, tensors=tensors, state=state)
        if is_best:
            point(folder / "best", target)
        prune_checkpoints(folder, keep=keep)

    def resume(self, folder: Path) -> None:
        """Continue from the newest whole checkpoint, if there is one.

        Raises:
            CheckpointError: all are damaged, or the run was made with other settings (all differences in one message).
        """
        found = newest_checkpoint(folder)
        if found is None:
            return
        differences = list(_differences(found.state["settings"], json.loads(json.dumps(dict(self.settings)))))
        if differences:
            raise CheckpointError(
                f"{found.folder} belongs to a run with other settings; start with another out=, or set them back:\n  "
                + "\n  ".join(differences)
            )
        self.load_weights(found)
        _unflatten(self.optimizer, found.tensors.get("optimizer", {}), found.state["optimizer"])
        for name, value in found.state["progress"].items():
            setattr(self.progress, name, value)
        if self.paced is not None:
            self.paced.restore(found.state["paced"])
        log.info("resuming after step %d from %s", self.progress.step, found.folder)

    def load_weights(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint's weights and buffers into the modules."""
        for name, module in self.modules.items():
            stored = dict(checkpoint.tensors[name])
            for alias, original in checkpoint.state["aliases"][name].items():
                stored[alias] = stored[original]
            module.load_state_dict(stored)


def _unique(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a module, each once, and the further names of those that have several (tied weights)."""
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    names: dict[int, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) in names:
            aliases[name] = names[id(tensor)]
        else:
            names[id(tensor)] = name
            tensors[name] = tensor
    return tensors, aliases


def _flatten(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for parameter, values in state["state"].items():
        for key, value in values.items():
            (tensors if isinstance(value, Tensor) else numbers)[f"{parameter}/{key}"] = value
    return tensors, {"state": numbers, "param_groups": state["param_groups"]}


def _unflatten(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **numbers["state"]}.items():
        parameter, _, key = name.partition("/")
        state.setdefault(int(parameter), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": numbers["param_groups"]})


def _differences(found: Any, wanted: Any, where: str = "") -> Iterator[str]:
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in sorted({*found, *wanted}):
            yield from _differences(found.get(key), wanted.get(key), f"{where}.{key}" if where else key)
    elif found != wanted:
        yield f"{where}: the checkpoint has {found!r}, this run {wanted!r}"
