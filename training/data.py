"""The files a run trains on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DataFiles:
    """Paths, or names of data sets, of what to train on and what to evaluate on while training."""

    train: str | None = None
    dev: str | None = None
