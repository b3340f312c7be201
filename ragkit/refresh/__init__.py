"""The index follows the encoder: the next generation made aside, in this process or another, and the switch to it."""

from ragkit.refresh.clone import clone_index
from ragkit.refresh.generation import NextGeneration, RefreshJob, live_passages, passage_digest, read_record
from ragkit.refresh.make import Made, Overlaps, make_generation
from ragkit.refresh.staleness import Sample, measure_staleness, overlap

__all__ = [
    "Made",
    "NextGeneration",
    "Overlaps",
    "RefreshJob",
    "Sample",
    "clone_index",
    "live_passages",
    "make_generation",
    "measure_staleness",
    "overlap",
    "passage_digest",
    "read_record",
]
