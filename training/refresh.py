"""The index follows the encoder while it trains: call :meth:`Refresher.step` before every optimizer update."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Int64

from ragkit import distributed
from ragkit.corpus import PassageStore
from ragkit.errors import CheckpointError, ConfigError, IndexCorrupt
from ragkit.index import IndexWriter, index_writer, open_index
from ragkit.index.sharded import ShardedIndex
from ragkit.refresh import (
    Made,
    NextGeneration,
    Overlaps,
    RefreshJob,
    live_passages,
    make_generation,
    measure_staleness,
    passage_digest,
)
from ragkit.refresh.hot import hot_rows
from ragkit.retriever import DualEncoder
from ragkit.retriever.dense import DenseRetriever
from ragkit.seeding import derive_seed

from .refresh_background import BackgroundRefresh, Pending
from .refresh_clock import Clock
from .refresh_policy import RefreshEvent, RefreshPolicy
from .refresh_schedule import RefreshSchedule
from .searched_rows import SearchedRows

log = logging.getLogger(__name__)

_STATES = 3  # checkpoints whose generations stay on disk


class Refresher:
    """Keeps an index near the weights of the encoder that is trained, and the retriever that searches it.

    ``index_dir`` is written to: give a run an index of its own (:func:`ragkit.refresh.clone_index`); it is locked until
    :meth:`close`. ``queries`` are what the fixed sample for measuring staleness is drawn from. :attr:`retriever` is
    the live retriever: present weights for the queries, the live generation's vectors for the passages. In several
    processes each makes a refresher, and all call :meth:`step` alike; :attr:`searcher` is for searches that all of them
    make together (with ``policy.sharded`` each holds a part of the index), and else the same.

    Raises:
        InputError, IndexCorrupt, IndexMismatch: there is no dense index of this store and dimension.
        IndexBusy: another process writes the index.
        ConfigError: mode drift without queries.
    """

    def __init__(  # noqa: PLR0913  a constructor: eight at most
        self,
        policy: RefreshPolicy,
        index_dir: Path,
        encoder: DualEncoder,
        store: PassageStore,
        *,
        queries: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self.policy, self.index_dir, self.encoder, self.store, self.seed = policy, index_dir, encoder, store, seed
        self._schedule = RefreshSchedule.parse(policy.schedule)
        self._sample = policy.staleness.sample(queries, seed=seed)
        if policy.mode == "drift" and not self._sample.queries:
            raise ConfigError("refresh mode drift measures staleness on queries, and there are none: give queries=")
        self._searched = SearchedRows(len(store))
        self._clock = Clock()
        self._update, self._is_outside = -1, False
        self._needed: deque[list[int]] = deque(maxlen=_STATES)
        self._use(self._open())
        self._passages = self._live_passages()
        self._background = BackgroundRefresh(policy.background, index_dir, encoder=encoder, sample=self._sample)
        self._held = ExitStack()
        if distributed.is_main():
            self._held.enter_context(index_writer(index_dir))
        if policy.mode == "async":
            self._background.warm()

    def __enter__(self) -> Refresher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def generation(self) -> int:
        """The number of the live generation."""
        return self.retriever.index.generation

    def step(self, update: int, *, searched_rows: Int64[np.ndarray, "query k"] | None = None) -> RefreshEvent | None:
        """Do what is due when ``update`` updates are finished, before the next searches; what was done, if anything.

        A second call for the same update does nothing, so it may be called again after a resume. ``searched_rows`` are
        the hits since the last call (-1 is none), of which scope "hot" learns; give them at every call or at none.

        Raises:
            NonFiniteVectors, DiskFull: the refresh failed; the live generation is as it was.
        """
        if searched_rows is not None:
            self.note_searched(searched_rows)
        if update == self._update:
            return None
        self._update = update
        with self._clock.blocked() as waited:
            event = self._advance(update)
        return self._reported(event, waited.seconds) if event else None

    def note_searched(self, rows: Int64[np.ndarray, "query k"]) -> None:
        """Remember hits (-1 is none) for scope "hot"; all processes call it alike.

        Called right after the search, and not with the next :meth:`step`, the hits are in a checkpoint between the two.
        """
        if self.policy.scope == "hot":
            self._searched.add(rows, device=self.encoder.device)

    def refresh(self, update: int) -> RefreshEvent | None:
        """Bring the index up to the present weights now, all passages, whatever the schedule says; None where it is.

        Where only the query tower changed, the vectors are linked and not made again. Call it when training ends, so
        that the index and the exported retriever belong together.
        """
        made_by = self.retriever.index.manifest.encoder
        if made_by is not None and made_by.digest == self.encoder.digest:
            return None
        self._background.drop()
        scope = "linked" if passage_digest(self.encoder) == self._passages else "all"
        with self._clock.blocked() as waited:
            event = RefreshEvent("switched", update, update, self._refresh(update, scope=scope))
        return self._reported(event, waited.seconds)

    def overlap(self) -> float | None:
        """The share of the fresh hits that the index finds; None with a schedule, whose refreshes measure it."""
        if self._schedule.ranges or not self._sample.queries:
            return None
        if passage_digest(self.encoder) == self._passages:
            return 1.0
        return measure_staleness(self.encoder, self.retriever.index, self.store, self._sample).overlap

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON values, to go in its checkpoint; the generations it names stay on disk."""
        pending = self._background.pending
        self._needed.append([self.generation, *([pending.generation] if pending else [])])
        return {
            "update": self._update,
            "generation": self.generation,
            "needed": list(self._needed),
            "pending": self._background.state(),
            "passages": self._passages,
            "searched": self._searched.state(),
            "clock": self._clock.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave: the generation of that moment is live again, later ones are forgotten.

        Raises:
            CheckpointError: that generation is gone or damaged.
        """
        if distributed.is_main() and state["generation"] != self.generation:
            self._go_back(state["generation"])
        distributed.barrier()
        self._use(self._open())
        self._background.load(state["pending"])
        self._update, self._passages = state["update"], state["passages"]
        self._needed.extend(state["needed"])
        self._searched.load(state["searched"])
        self._clock.load(state["clock"])

    def close(self) -> None:
        """End the background process and let go of the index directory; the retriever can still search."""
        self._background.close()
        self._held.close()

    def _advance(self, update: int) -> RefreshEvent | None:
        pending = self._background.pending
        is_due = self._is_due(update, pending.passages if pending else self._passages)
        switched = None
        if pending and (self._background.is_over(update) or is_due):  # one at a time: training waits for it
            made = self._background.finish()
            self._switch(IndexWriter(self.index_dir), passages=pending.passages)
            switched = RefreshEvent("switched", update, pending.job.update, made)
        if not is_due:
            return switched
        if self.policy.mode == "async":
            started = self._started(update)
            return switched or started
        kept = self._measured(update) if self.policy.mode == "drift" else None
        return kept or RefreshEvent("switched", update, update, self._refresh(update, scope=self.policy.scope))

    def _is_due(self, update: int, passages: str) -> bool:
        if not self._schedule.due(update):
            self._warn_outside(update)
            return False
        if passage_digest(self.encoder) != passages:
            return True
        log.info("refresh due at update %d: the passage tower is as it was, nothing to do", update)
        return False

    def _warn_outside(self, update: int) -> None:
        is_outside = bool(self._schedule.ranges) and self._schedule.rate(update) is None
        if is_outside and not self._is_outside and distributed.is_main():
            log.warning(
                "update %d is in no range of task.refresh.schedule=%s: no refresh", update, self.policy.schedule
            )
        self._is_outside = is_outside

    def _started(self, update: int) -> RefreshEvent:
        """The event that says that the background process has begun."""
        generation = self._begin(update, scope=self.policy.scope)
        number, lag = generation.writer.number, self.policy.lag(update)
        passages = "" if self.policy.scope == "hot" else passage_digest(self.encoder)
        switch_at = None if lag is None else update + lag
        self._background.start(Pending(generation.job, number, generation.digest, passages, switch_at))
        return RefreshEvent("started", update, update, Made(number, 0, 0.0, Overlaps()))

    def _measured(self, update: int) -> RefreshEvent | None:
        """The event that says that nothing is done, where little enough has drifted."""
        started = time.perf_counter()
        found = measure_staleness(self.encoder, self.retriever.index, self.store, self._sample)
        (overlap,) = distributed.from_main([found.overlap])
        if overlap < self.policy.staleness.threshold:
            return None
        seconds = time.perf_counter() - started
        made = Made(self.generation, found.encoded, seconds, Overlaps(before=overlap))
        return RefreshEvent("kept", update, update, made)

    def _refresh(self, update: int, *, scope: str) -> Made:
        """Make the next generation here and now, and switch to it."""
        generation = self._begin(update, scope=scope)
        made = make_generation(generation, self._sample, rank=distributed.rank(), world=distributed.world_size())
        distributed.barrier()
        self._switch(generation.writer, passages=str(generation.record()["passages"]))
        return made

    def _begin(self, update: int, *, scope: str) -> NextGeneration:
        count, world = len(self.store), distributed.world_size()
        shard_rows = min(16384, max(1, -(-count // world)))
        job = RefreshJob(self.index_dir, update, scope, shard_rows, self.encoder.reference)
        generation = NextGeneration(job, self.encoder, self.store)
        searched, seed = self._searched.take(), derive_seed(self.seed, "refresh", update)
        rows = hot_rows(searched, count=count, share=self.policy.share, seed=seed) if scope == "hot" else None
        if distributed.is_main():
            generation.begin(rows)
        distributed.barrier()
        return generation

    def _switch(self, writer: IndexWriter, *, passages: str) -> None:
        if distributed.is_main():
            writer.make_live(keep=self.policy.keep, spare={number for state in self._needed for number in state})
        distributed.barrier()
        self._use(self._open())
        self._passages = passages

    def _go_back(self, number: int) -> None:
        try:
            IndexWriter(self.index_dir).go_back(number)
        except IndexCorrupt as error:
            raise CheckpointError(
                f"the checkpoint needs generation {number} of {self.index_dir}, and {error}; go on from an earlier "
                "checkpoint, or begin again in another out="
            ) from error
        log.info("back to generation %d of %s, which the checkpoint needs", number, self.index_dir)

    def _open(self) -> DenseRetriever:
        index = open_index(self.index_dir)
        index.manifest.require(self.index_dir, corpus_digest=self.store.digest)
        return DenseRetriever(self.encoder, index, allow_stale=True)

    def _use(self, retriever: DenseRetriever) -> None:
        self.retriever = self.searcher = retriever
        if self.policy.sharded and distributed.world_size() > 1:
            index = ShardedIndex(open_index(self.index_dir), device=self.encoder.device)
            self.searcher = DenseRetriever(self.encoder, index, allow_stale=True)

    def _live_passages(self) -> str:
        """The digest of the passage tower that made the live vectors; empty where that cannot be known."""
        return live_passages(self.retriever.index.folder, self.encoder)

    def _reported(self, event: RefreshEvent, waited: float) -> RefreshEvent:
        """The event with its times, also in the log."""
        event = replace(event, waited=waited, share=self._clock.share)
        if distributed.is_main():
            log.info("update %d: index %s", event.update, event.describe())
        return event
