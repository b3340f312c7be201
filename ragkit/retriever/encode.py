"""A whole corpus to files of vectors: in shards that are finished or absent, resumed by skipping the finished ones."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ragkit.corpus import PassageStore
from ragkit.device import has_bfloat16
from ragkit.errors import ConfigError, InputError, NonFiniteVectors
from ragkit.progress import progress
from ragkit.retriever.dual_encoder import DualEncoder, check_finite
from ragkit.retriever.inference import WINDOW, Inference
from ragkit.types import Passage

log = logging.getLogger(__name__)

STORED = ("float16", "float32")


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How the vectors are stored, and which process makes which shard.

    ``dtype`` is that of the files; ``shard_rows`` is what a killed run may lose at most; ``batch_tokens`` bounds a
    batch with its padding (None: a size measured for the device). Process ``rank`` of ``world`` makes the shards
    rank, rank + world, ...: they need not talk to one another.
    """

    dtype: str = "float16"
    shard_rows: int = 16384
    batch_tokens: int | None = None
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.dtype not in STORED:
            raise ConfigError(f"unknown vector dtype {self.dtype!r}; choose from {STORED}")
        if self.shard_rows < 1 or (self.batch_tokens is not None and self.batch_tokens < 1):
            raise ConfigError("shard_rows and batch_tokens must be at least 1")
        if not 0 <= self.rank < self.world:
            raise ConfigError(f"rank {self.rank} is not one of {self.world} processes; wanted 0 <= rank < world")


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of vectors: those of the passages ``start`` to ``stop`` (exclusive) of the store."""

    path: Path
    start: int
    stop: int

    @property
    def record(self) -> Path:
        """The JSON beside the vectors that is written last and says what they are."""
        return self.path.with_suffix(".json")


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """What made a shard (a shard with another origin is made again), its sha256, and what happened to its passages."""

    encoder: str
    corpus: str
    computed_in: str
    start: int
    stop: int
    dtype: str
    sha256: str = ""
    truncated: int = 0
    blank: int = 0


def plan_shards(count: int, folder: Path, *, shard_rows: int) -> list[Shard]:
    """The shards of ``count`` passages in order; an empty corpus has one, empty.

    >>> [(s.path.name, s.start, s.stop) for s in plan_shards(5, Path("."), shard_rows=3)]
    [('vectors-00000-of-00002.npy', 0, 3), ('vectors-00001-of-00002.npy', 3, 5)]
    """
    total = max(1, -(-count // shard_rows))
    return [
        Shard(folder / f"vectors-{n:05d}-of-{total:05d}.npy", n * shard_rows, min(count, (n + 1) * shard_rows))
        for n in range(total)
    ]


def encode_corpus(
    encoder: DualEncoder, store: PassageStore, folder: Path, *, options: EncodeOptions | None = None
) -> list[Path]:
    """Write the vectors of all passages into ``folder`` and return the files of this process, in order.

    Memory does not grow with the corpus: one window of passages is in it at a time. A shard that the same encoder
    made of the same passages is kept. Raises NonFiniteVectors naming the passages, and then that shard is not
    written; InputError where the folder holds vectors of another sharding.
    """
    options = options or EncodeOptions()
    folder.mkdir(parents=True, exist_ok=True)
    shards = plan_shards(len(store), folder, shard_rows=options.shard_rows)
    _refuse_others(folder, shards)
    own = shards[options.rank :: options.world]
    work = _Encoding(encoder, store, options)
    todo = [shard for shard in own if not work.is_finished(shard)]
    passages = sum(shard.stop - shard.start for shard in todo)
    log.info("%s; %d shards, %d of them finished before", work.describe(), len(own), len(own) - len(todo))
    for _ in progress(work.encode(todo), description="encoding passages", total=passages):
        pass
    _report([read_record(shard) for shard in own], encoder.options.passage_max_length)
    return [shard.path for shard in own]


def read_record(shard: Shard) -> ShardRecord | None:
    """What the JSON beside a shard says; None where there is none or it cannot be read."""
    try:
        return ShardRecord(**json.loads(shard.record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class _Encoding:
    """One run over some shards: the weights as they are at its beginning, and what identifies its vectors."""

    def __init__(self, encoder: DualEncoder, store: PassageStore, options: EncodeOptions) -> None:
        self.encoder, self.store, self.options = encoder, store, options
        self.digest = encoder.digest
        self.computed_in = str(encoder.compute_dtype).removeprefix("torch.")

    def describe(self) -> str:
        device = self.encoder.device
        why = "as asked" if self.computed_in == "float32" and has_bfloat16(device)[0] else has_bfloat16(device)[1]
        return f"encoding {len(self.store):,} passages in {self.computed_in} on {device} ({why})"

    def is_finished(self, shard: Shard) -> bool:
        found = read_record(shard)
        if found is None or not shard.path.is_file() or shard.path.stat().st_size != self._size(shard):
            return False
        return replace(found, sha256="", truncated=0, blank=0) == self._record(shard)

    def _record(self, shard: Shard) -> ShardRecord:
        """The record of a shard before it is made."""
        return ShardRecord(
            encoder=self.digest,
            corpus=self.store.digest,
            computed_in=self.computed_in,
            start=shard.start,
            stop=shard.stop,
            dtype=self.options.dtype,
        )

    def _size(self, shard: Shard) -> int:
        rows = shard.stop - shard.start
        return len(self._header(shard)) + rows * self.encoder.dim * np.dtype(self.options.dtype).itemsize

    def _header(self, shard: Shard) -> bytes:
        return npy_header(shard.stop - shard.start, self.encoder.dim, dtype=self.options.dtype)

    def encode(self, shards: list[Shard]) -> Iterator[int]:
        """Make the shards; yields once for each passage, so that progress counts them."""
        if not shards:
            return
        inference = self.encoder.inference("passage")
        for shard in shards:
            yield from self._encode_shard(inference, shard)

    def _encode_shard(self, inference: Inference, shard: Shard) -> Iterator[int]:
        part = shard.path.with_name(f".{shard.path.name}.{os.getpid()}.part")
        record = self._record(shard)
        truncated = blank = 0
        found = hashlib.sha256(self._header(shard))
        try:
            with part.open("wb") as file:
                file.write(self._header(shard))
                for passages in self.store.batches(WINDOW, start=shard.start, stop=shard.stop):
                    texts = self.encoder.passage_texts(passages)
                    result = inference.allocate(texts)
                    for done in inference.fill(result, texts, batch_tokens=self.options.batch_tokens):
                        yield from range(done)
                    data = _stored(result.vectors, passages, dtype=self.options.dtype).tobytes()
                    found.update(data)
                    file.write(data)
                    truncated, blank = truncated + result.truncated, blank + len(result.blank)
                file.flush()
                os.fsync(file.fileno())
            part.replace(shard.path)
        finally:
            part.unlink(missing_ok=True)
        record = replace(record, sha256=found.hexdigest(), truncated=truncated, blank=blank)
        write_record(shard, record)


def _stored(
    vectors: Float[np.ndarray, "passage dim"], passages: list[Passage], *, dtype: str
) -> Float[np.ndarray, "passage dim"]:
    """The vectors in the dtype of the file; NonFiniteVectors where one is not finite, before or after."""
    check_finite(np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist(), passages)
    with np.errstate(over="ignore"):
        stored = vectors.astype(dtype)
    overflown = np.flatnonzero(~np.isfinite(stored).all(axis=1))
    if len(overflown):
        named = ", ".join(repr(passages[row].id) for row in overflown[:5])
        raise NonFiniteVectors(f"{len(overflown)} vectors do not fit into {dtype}: passages {named}; store float32")
    return stored


def write_record(shard: Shard, record: ShardRecord) -> None:
    """Write the record beside the shard, whole or not at all; do so last."""
    part = shard.record.with_name(f".{shard.record.name}.{os.getpid()}.part")
    part.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
    part.replace(shard.record)


def npy_header(rows: int, dim: int, *, dtype: str) -> bytes:
    """The bytes before the values of a ``.npy`` file of ``[rows, dim]``, for writing one piece by piece."""
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": (rows, dim)}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()


def _refuse_others(folder: Path, shards: list[Shard]) -> None:
    known = {shard.path.name for shard in shards}
    others = sorted(path.name for path in folder.glob("vectors-*-of-*.npy") if path.name not in known)
    if others:
        raise InputError(
            f"{folder} holds vectors of another corpus or sharding ({others[0]}, ...); use an empty folder"
        )


def _report(records: list[ShardRecord | None], limit: int) -> None:
    made = [record for record in records if record is not None]
    count = sum(record.stop - record.start for record in made)
    truncated, blank = sum(record.truncated for record in made), sum(record.blank for record in made)
    if truncated:
        log.warning(
            "%d of %d passages were longer than %d tokens; the rest of each was cut off", truncated, count, limit
        )
    if blank:
        log.warning("%d of %d passages are blank; their vectors are zero and match nothing", blank, count)
