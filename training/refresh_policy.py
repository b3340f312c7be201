"""When and how the index follows the encoder, and what a refresh reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ragkit.errors import ConfigError
from ragkit.refresh import Made, Sample
from ragkit.seeding import make_generator

from .refresh_schedule import RefreshSchedule

MODES = ("sync", "async", "drift")
SCOPES = ("all", "hot")


@dataclass(frozen=True, slots=True)
class BackgroundPolicy:
    """The process of ``mode: async``.

    ``lag`` is how many updates after its beginning a refresh goes live, as a share of the schedule's rate where below
    1; training waits for one that is late, so that a run is the same on every machine. None: at the first update where
    it is ready, which is sooner or later from run to run. ``threads`` are torch's in that process (None: its default),
    ``nice`` lowers its priority.
    """

    lag: float | int | None = 0.5
    threads: int | None = None
    nice: int = 0

    def __post_init__(self) -> None:
        if self.lag is not None and not 0 < self.lag < math.inf:
            raise ConfigError(f"refresh background.lag must be above 0, or null for as soon as ready, not {self.lag}")
        if (self.threads is not None and self.threads < 1) or not 0 <= self.nice <= 19:  # noqa: PLR2004  POSIX's range
            raise ConfigError(
                f"refresh background.threads must be 1 or more and nice 0 to 19: {self.threads}, {self.nice}"
            )


@dataclass(frozen=True, slots=True)
class StalenessPolicy:
    """On how many fixed ``queries`` overlap at ``k`` is measured (0: not at all), among how many stale hits each.

    ``threshold`` is for ``mode: drift``: a refresh that is due happens where the overlap is below it.
    """

    queries: int = 32
    k: int = 10
    pool: int = 50
    threshold: float | int = 0.8

    def __post_init__(self) -> None:
        if self.queries < 0 or self.k < 1 or self.pool <= self.k:
            raise ConfigError(
                f"refresh staleness needs queries >= 0 and 1 <= k < pool, not queries={self.queries} k={self.k} "
                f"pool={self.pool}: in a pool of k hits every overlap would be 1"
            )
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"refresh staleness.threshold is a share above 0 and up to 1, not {self.threshold}")

    def sample(self, queries: Sequence[str], *, seed: int) -> Sample:
        """The queries to measure on, drawn by the seed; none where nothing is to be measured."""
        asked = sorted({query for query in queries if query.strip()}) if self.queries else []
        order = torch.randperm(len(asked), generator=make_generator(seed, "staleness"))[: self.queries]
        return Sample(tuple(asked[place] for place in order.tolist()), self.k, self.pool)


@dataclass(frozen=True, slots=True)
class RefreshPolicy:
    """When the index is encoded anew and how.

    ``schedule`` is that of :class:`~.refresh_schedule.RefreshSchedule`. ``mode`` "sync" stops training meanwhile,
    "async" lets another process do it, "drift" is sync where the staleness measured at a due update is too large.
    ``scope`` "hot" encodes the passages found since the last refresh and a ``share`` of all others drawn by the seed.
    ``keep`` counts the generations on disk; those that checkpoints need stay besides. With ``sharded`` each of several
    processes holds its part of a flat index in memory, and they search together; without, all map the whole file.
    """

    schedule: str | int | None = "never"
    mode: str = "sync"
    scope: str = "all"
    share: float | int = 0.1
    keep: int = 2
    sharded: bool = False
    background: BackgroundPolicy = field(default_factory=BackgroundPolicy)
    staleness: StalenessPolicy = field(default_factory=StalenessPolicy)

    def __post_init__(self) -> None:
        RefreshSchedule.parse(self.schedule)
        for name, value, choices in (("mode", self.mode, MODES), ("scope", self.scope, SCOPES)):
            if value not in choices:
                raise ConfigError(f"unknown refresh {name} {value!r}; choose from {sorted(choices)}")
        if not 0 <= self.share <= 1 or self.keep < 1:
            raise ConfigError(f"refresh share must be 0 to 1 and keep 1 or more: share={self.share} keep={self.keep}")
        if self.mode == "drift" and self.staleness.queries == 0:
            raise ConfigError("refresh mode drift measures staleness: set staleness.queries above 0")

    def lag(self, update: int) -> int | None:
        """The updates from the beginning of an async refresh to its switch; None: as soon as it is ready."""
        lag = self.background.lag
        if lag is None or lag >= 1:
            return None if lag is None else int(lag)
        return max(1, math.ceil(lag * (RefreshSchedule.parse(self.schedule).rate(update) or 1)))

    def identity(self) -> dict[str, Any]:
        """What the losses of a run depend on: a resumed run must have the same."""
        found = asdict(self)
        del found["keep"], found["sharded"], found["background"]["threads"], found["background"]["nice"]
        if self.mode != "async":
            del found["background"]
        if self.mode != "drift":
            del found["staleness"]
        return found


@dataclass(frozen=True, slots=True)
class RefreshEvent:
    """What :meth:`~.refresh.Refresher.step` did before update ``update``.

    ``kind`` is "switched" (``made`` is live), "started" (the background process began ``made``) or "kept" (by drift:
    ``made`` is the live generation, with the overlap that was measured). ``began`` is the update whose weights made
    it. ``waited`` are the seconds that training stood still for it, ``share`` is the share of all time so far that
    training stood still for refreshing.
    """

    kind: str
    update: int
    began: int
    made: Made
    waited: float = 0.0
    share: float = 0.0

    def figures(self) -> dict[str, float | int | str]:
        """For a line of the log, under names that begin with ``refresh``; what was not measured is left out."""
        made, overlaps = self.made, asdict(self.made.overlaps)
        return {
            "refresh": self.kind,
            "refresh_generation": made.generation,
            "refresh_began": self.began,
            "refresh_encoded": made.encoded,
            "refresh_seconds": round(made.seconds, 4),
            "refresh_waited": round(self.waited, 4),
            "refresh_share": round(self.share, 4),
            **{f"refresh_overlap_{name}": value for name, value in overlaps.items() if value is not None},
        }

    def describe(self) -> str:
        """The same in a sentence."""
        made, before = self.made, self.made.overlaps.before
        parts = [f"generation {made.generation} {self.kind}"]
        if self.kind != "started":
            parts.append(f"{made.encoded:,} passages encoded in {made.seconds:.1f} s")
            parts.append(f"training waited {self.waited:.1f} s ({self.share:.0%} of all time so far)")
        if before is not None:
            parts.append(f"{before:.0%} of the fresh hits were found before")
        return ", ".join(parts)
