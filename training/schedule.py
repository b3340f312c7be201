"""Learning-rate schedules: a rise from 0 to 1 over the warm-up, then one of :data:`SCHEDULES`."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import MappingProxyType

from ragkit.errors import ConfigError

SCHEDULES: MappingProxyType[str, Callable[[float], float]] = MappingProxyType(
    {
        "linear": lambda done: 1.0 - done,
        "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
        "constant": lambda _: 1.0,
    }
)
"""Name -> the multiplier of the learning rate when ``done`` in [0, 1] of the steps after the warm-up are behind."""


def multiplier(name: str, *, step: int, warmup: int, total: int) -> float:
    """The multiplier for the update that follows ``step`` finished ones, of ``total``; never 0 at the first update.

    >>> [multiplier("linear", step=step, warmup=2, total=6) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if name not in SCHEDULES:
        raise ConfigError(f"unknown schedule {name!r}; choose from {sorted(SCHEDULES)}")
    if step < warmup:
        return (step + 1) / warmup
    return SCHEDULES[name]((step - warmup) / max(1, total - warmup))
