"""Make the next generation in this process, and say what it changed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ragkit.index import FaissIndex, open_index
from ragkit.refresh.generation import NextGeneration
from ragkit.refresh.staleness import Sample, measure_staleness, overlap

_POLL = 0.05  # seconds between looks at the other processes' files


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Overlaps at k under the weights of the new generation; None where no queries were given.

    ``before``: fresh top k found by the old generation; ``previous``: the new generation's found by the old one;
    ``after``: fresh top k found by the new generation, 1 unless only some passages were encoded.
    """

    before: float | None = None
    previous: float | None = None
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A sealed generation that is not live yet: its number, passages encoded, the seconds it took, what it changed."""

    generation: int
    encoded: int
    seconds: float
    overlaps: Overlaps

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Made:
        """What :meth:`to_json` gave."""
        return cls(**{**data, "overlaps": Overlaps(**data["overlaps"])})


def make_generation(generation: NextGeneration, sample: Sample, *, rank: int = 0, world: int = 1) -> Made:
    """Encode this process's share of a generation that has begun; process 0 then waits for the others and seals it.

    Raises:
        NonFiniteVectors, DiskFull: as their names say; the live generation is as it was.
    """
    started = time.perf_counter()
    generation.encode(rank=rank, world=world)
    overlaps = Overlaps()
    if rank == 0:
        while not generation.is_encoded():
            time.sleep(_POLL)
        generation.seal()
        overlaps = _compare(generation, sample)
    encoded = int(generation.record()["encoded"])
    return Made(generation.writer.number, encoded, time.perf_counter() - started, overlaps)


def _compare(generation: NextGeneration, sample: Sample) -> Overlaps:
    if not sample.queries:
        return Overlaps()
    encoder, k = generation.encoder, sample.k
    old, new = open_index(generation.job.index_dir), generation.open_sealed()
    vectors = encoder.encode_queries(list(sample.queries))
    previous = overlap(old.search(vectors, k).rows, new.search(vectors, k).rows)
    if generation.job.scope != "hot":  # the new generation is the fresh ranking
        return Overlaps(before=previous, previous=previous, after=1.0)

    def fresh(index: FaissIndex) -> float:
        return measure_staleness(encoder, index, generation.store, sample).overlap

    return Overlaps(before=fresh(old), previous=previous, after=fresh(new))
