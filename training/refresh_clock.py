"""How long a run has been training, and how much of it stood still for the index."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Wait:
    """The seconds that a block took, known after it."""

    seconds: float = 0.0


class Clock:
    """Wall time since a run began, over all its parts, and the time inside :meth:`blocked`."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._before = 0.0
        self.waited = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning, the parts of a resumed run added up."""
        return self._before + time.perf_counter() - self._started

    @property
    def share(self) -> float:
        """The share of all time that was waited, in [0, 1]."""
        return self.waited / max(self.elapsed, 1e-9)

    @contextmanager
    def blocked(self) -> Iterator[Wait]:
        """Count the time of the block as waited."""
        wait, started = Wait(), time.perf_counter()
        try:
            yield wait
        finally:
            wait.seconds = time.perf_counter() - started
            self.waited += wait.seconds

    def state(self) -> dict[str, float]:
        """Both times, as JSON values."""
        return {"elapsed": self.elapsed, "waited": self.waited}

    def load(self, state: Mapping[str, float]) -> None:
        """Go on from what :meth:`state` gave."""
        self._before, self.waited = state["elapsed"], state["waited"]
        self._started = time.perf_counter()
