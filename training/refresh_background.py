"""The refresh that is under way in another process: when it goes live, and how a resumed run takes it up again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ragkit import distributed
from ragkit.errors import CheckpointError, IndexCorrupt, IndexMismatch
from ragkit.failpoints import failpoint
from ragkit.index import Manifest
from ragkit.refresh import Made, Overlaps, RefreshJob, Sample, read_record
from ragkit.refresh.background import Background, Request, WorkerDied
from ragkit.refresh.generation import SNAPSHOT
from ragkit.retriever import DualEncoder

from .refresh_policy import BackgroundPolicy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pending:
    """A generation under way: the job, by whose weights (digests of the encoder and of its passage tower), and when.

    It goes live before update ``switch_at``; None: before the first update where it is ready.
    """

    job: RefreshJob
    generation: int
    digest: str
    passages: str
    switch_at: int | None


class BackgroundRefresh:
    """At most one refresh under way, made by a process of its own for every process that trains."""

    def __init__(self, policy: BackgroundPolicy, index_dir: Path, *, encoder: DualEncoder, sample: Sample) -> None:
        log_file = index_dir / f".refresh-{distributed.rank()}.log"
        self._worker = Background(log_file, threads=policy.threads, nice=policy.nice)
        self._index_dir, self._encoder, self._sample = index_dir, encoder, sample
        self._made: Made | None = None
        self.pending: Pending | None = None

    def warm(self) -> None:
        """Start the process before it is needed."""
        self._worker.warm()

    def start(self, pending: Pending) -> None:
        """Let the worker make the generation that has begun."""
        self.pending, self._made = pending, None
        if distributed.is_main():
            log.info("update %d: generation %d begins in the background", pending.job.update, pending.generation)
        try:
            self._submit(pending)
        except WorkerDied as death:  # while it was idle
            self._once_more(death)

    def is_over(self, update: int) -> bool:
        """Whether the generation should be live before update ``update``; the same answer in every process."""
        if self.pending is None:
            return False
        if self.pending.switch_at is not None:
            return update >= self.pending.switch_at
        if self._made is None:
            try:
                self._made = self._worker.poll()
            except WorkerDied as death:
                self._once_more(death)
        return distributed.largest(int(self._made is None)) == 0

    def finish(self) -> Made:
        """Wait until the generation is sealed. Raises RefreshFailed where it cannot be made."""
        if self._made is None:
            try:
                self._made = self._worker.wait()
            except WorkerDied as death:
                self._once_more(death)
                self._made = self._worker.wait()
        made, self.pending, self._made = self._made, None, None
        distributed.barrier()
        return made

    def drop(self) -> None:
        """Give up what is under way; the next refresh clears it away."""
        self._worker.close()
        self.pending = self._made = None

    def state(self) -> dict[str, Any] | None:
        """What is under way, as JSON values; the folder belongs to the run."""
        if self.pending is None:
            return None
        found = asdict(self.pending)
        del found["job"]["index_dir"]
        return found

    def load(self, state: Mapping[str, Any] | None) -> None:
        """Take up what was under way, where the generation before it is live again.

        Raises:
            CheckpointError: the weights that it began with are gone from the disk.
        """
        self.drop()
        if state is None:
            return
        pending = Pending(**{**state, "job": RefreshJob(self._index_dir, **state["job"])})
        folder = self._index_dir / f"g{pending.generation:06d}"
        encoded = _sealed(folder, pending)
        if encoded is None and not (folder / SNAPSHOT / "modules.json").is_file():
            raise CheckpointError(
                f"a refresh was under way at this checkpoint, and {folder}, with the weights that it began with, is "
                "gone; go on from an earlier checkpoint, or begin again in another out="
            )
        self.start(pending) if encoded is None else self._take(pending, encoded)

    def close(self) -> None:
        """End the process."""
        self._worker.close()

    def _take(self, pending: Pending, encoded: int) -> None:
        """What the killed run had finished needs no making."""
        self.pending, self._made = pending, Made(pending.generation, encoded, 0.0, Overlaps())

    def _submit(self, pending: Pending) -> None:
        dtype = str(self._encoder.compute_dtype).removeprefix("torch.")
        rank, world = distributed.rank(), distributed.world_size()
        device = str(self._encoder.device)
        self._worker.submit(Request(pending.job, pending.digest, device, dtype, self._sample, rank=rank, world=world))
        failpoint("refresh.submitted")

    def _once_more(self, death: WorkerDied) -> None:
        """Give the same request to a new worker, which goes on with the shards that are finished."""
        if self.pending is None:
            raise death
        log.warning("%s; starting another, once", death)
        self._submit(self.pending)


def _sealed(folder: Path, pending: Pending) -> int | None:
    """The passages encoded for the finished generation in ``folder``; None where it is another or not whole."""
    record = read_record(folder)
    if (record.get("encoder"), record.get("update")) != (pending.digest, pending.job.update):
        return None
    try:
        Manifest.load(folder).verify(folder)
    except (IndexCorrupt, IndexMismatch):
        return None
    return int(record["encoded"])
