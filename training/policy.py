"""How a run trains: its length, batches, optimizer, and when it evaluates and saves. Numbers of steps are updates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from ragkit.errors import ConfigError

from .schedule import SCHEDULES


@dataclass(frozen=True, slots=True)
class OptimizerPolicy:
    """AdamW with a schedule and clipping.

    ``warmup`` counts updates, or is a share of all of them where below 1. ``weight_decay`` spares biases and
    normalisation weights (everything of fewer than two axes). ``clip`` bounds the norm of the whole gradient.
    """

    learning_rate: float | int = 2e-5
    weight_decay: float | int = 0.0
    betas: list[float] | tuple[float, float] = (0.9, 0.999)
    eps: float | int = 1e-8
    schedule: str = "linear"
    warmup: float | int = 0.1
    clip: float | int | None = 2.0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"optimizer.{name} must be above 0, not {getattr(self, name)}")
        for name in ("weight_decay", "warmup"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"optimizer.{name} must be 0 or more, not {getattr(self, name)}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):  # noqa: PLR2004  AdamW has two
            raise ConfigError(
                f"optimizer.betas must be two numbers of at least 0 and below 1, such as [0.9, 0.999], not {self.betas}"
            )
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"unknown optimizer.schedule {self.schedule!r}; choose from {sorted(SCHEDULES)}")
        if self.clip is not None and not self.clip > 0:
            raise ConfigError(f"optimizer.clip must be above 0, or null for no clipping, not {self.clip}")

    def warmup_steps(self, total: int) -> int:
        """The updates of the warm-up in a run of ``total``."""
        return math.ceil(self.warmup * total) if self.warmup < 1 else int(self.warmup)

    def identity(self) -> dict[str, Any]:
        """Its numbers as JSON values."""
        return {**asdict(self), "betas": list(self.betas)}

    def build(self, modules: Mapping[str, nn.Module]) -> torch.optim.Optimizer:
        """AdamW over the parameters that want a gradient, in the order of the modules; a shared one once."""
        return torch.optim.AdamW(self.groups(trained_parameters(modules)))

    def groups(self, parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
        """Two parameter groups, with decay and without, each with all of AdamW's numbers."""
        first, second = self.betas
        numbers = {"lr": self.learning_rate, "betas": (first, second), "eps": self.eps}
        decayed = [parameter for parameter in parameters if parameter.ndim >= 2]  # noqa: PLR2004  a matrix has two axes
        spared = [parameter for parameter in parameters if parameter.ndim < 2]  # noqa: PLR2004
        return [
            {"params": decayed, "weight_decay": self.weight_decay, **numbers},
            {"params": spared, "weight_decay": 0.0, **numbers},
        ]


@dataclass(frozen=True, slots=True)
class SavePolicy:
    """When to evaluate, save and log; ``metric`` names the best checkpoint, which is exported.

    Larger is better, or smaller with a minus before the name ("-nll").

    None: once an epoch for ``eval_every``, with each evaluation for ``save_every``. ``keep`` newest checkpoints stay,
    and the best. ``max_skipped`` updates may be skipped because of a loss or gradient that is not finite.
    """

    eval_every: int | None = None
    save_every: int | None = None
    log_every: int = 1
    keep: int = 2
    metric: str | None = None
    export: str = "best"
    max_skipped: int = 10

    def __post_init__(self) -> None:
        for name in ("eval_every", "save_every", "log_every", "keep"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"save.{name} must be 1 or more, not {value}")
        if self.export not in {"best", "last"}:
            raise ConfigError(f"save.export must be best or last, not {self.export!r}")


@dataclass(frozen=True, slots=True)
class ComputePolicy:
    """Where and in which number format to train, and how many processes there must be (None: any number).

    ``dtype`` "auto" is bfloat16 autocast where the hardware has it; weights and losses stay float32. ``timeout`` is how
    many seconds one of several processes waits for another: longer than an evaluation and than a refresh.
    """

    device: str = "auto"
    dtype: str = "auto"
    processes: int | None = None
    timeout: float | int = 1800

    def __post_init__(self) -> None:
        if not 0 < self.timeout < math.inf:
            raise ConfigError(f"compute.timeout must be above 0 seconds, not {self.timeout}")


@dataclass(frozen=True, slots=True)
class TrainPolicy:
    """A whole run: ``steps`` updates, or ``epochs`` passes over the items where ``steps`` is None.

    ``batch_size`` counts the items of an update, over all processes and all of its ``accumulate`` parts.
    ``optimizers`` gives single modules of a task, by name, an optimizer of their own: its own rate, schedule, decay
    and clipping; all others have ``optimizer``.
    """

    steps: int | None = None
    epochs: float | int | None = None
    batch_size: int = 16
    accumulate: int = 1
    seed: int = 0
    compute: ComputePolicy = field(default_factory=ComputePolicy)
    optimizer: OptimizerPolicy = field(default_factory=OptimizerPolicy)
    save: SavePolicy = field(default_factory=SavePolicy)
    optimizers: Mapping[str, OptimizerPolicy] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.steps is None and self.epochs is None:
            raise ConfigError("how long to train? give policy.steps or policy.epochs")
        if (self.steps is not None and self.steps < 1) or (self.epochs is not None and not 0 < self.epochs < math.inf):
            raise ConfigError(f"steps must be 1 or more and epochs above 0: steps={self.steps} epochs={self.epochs}")
        if not 1 <= self.accumulate <= self.batch_size:
            raise ConfigError(f"cannot split a batch of {self.batch_size} into accumulate={self.accumulate} parts")

    def total_steps(self, steps_per_epoch: int) -> int:
        """The updates of the whole run."""
        return self.steps if self.steps is not None else math.ceil(steps_per_epoch * (self.epochs or 0.0))

    def identity(self) -> dict[str, Any]:
        """What must not change between the parts of a resumed run: all that the losses depend on.

        When to log, evaluate, save and what to export may change, and so may the number of processes.
        """
        found = asdict(self)
        del found["save"], found["steps"], found["epochs"], found["optimizers"]
        del found["compute"]["processes"], found["compute"]["timeout"]
        found["optimizer"] = self.optimizer.identity()
        if self.optimizers:
            found["optimizers"] = {name: policy.identity() for name, policy in sorted(self.optimizers.items())}
        return found

    def shares(self, modules: Mapping[str, nn.Module]) -> list[TrainedShare]:
        """Which parameters which optimizer trains: the common one first, then those of single modules.

        Raises:
            ConfigError: ``optimizers`` names a module that the task does not train.
        """
        unknown = sorted(set(self.optimizers) - set(modules))
        if unknown:
            raise ConfigError(f"policy.optimizers names {unknown}, and this task trains {sorted(modules)}")
        own = {name: trained_parameters({name: modules[name]}) for name in self.optimizers}
        taken = {id(parameter) for parameters in own.values() for parameter in parameters}
        common = [parameter for parameter in trained_parameters(modules) if id(parameter) not in taken]
        return [
            *([TrainedShare("", self.optimizer, common)] if common or not own else []),
            *(TrainedShare(name, self.optimizers[name], parameters) for name, parameters in own.items()),
        ]


@dataclass(frozen=True, slots=True)
class TrainedShare:
    """Some of the parameters and the policy of their optimizer; ``name`` is the module's, "" for the common one."""

    name: str
    policy: OptimizerPolicy
    parameters: list[nn.Parameter]


def build_optimizer(shares: Sequence[TrainedShare]) -> torch.optim.Optimizer:
    """One AdamW over all shares: two parameter groups each, in their order, every one with numbers of its own.

    AdamW keeps its state by parameter, so this is an optimizer a share, saved as one.
    """
    return torch.optim.AdamW([group for share in shares for group in share.policy.groups(share.parameters)])


def trained_parameters(modules: Mapping[str, nn.Module]) -> list[nn.Parameter]:
    """The parameters that want a gradient, each once, in the order of the modules."""
    unique = {id(p): p for module in modules.values() for p in module.parameters() if p.requires_grad}
    return list(unique.values())
