"""The passage store: memory-mapped Arrow IPC shards in corpus order, opened without reading the passages.

::

    FOLDER/
      store.json              format version, counts, content digest, size and sha256 of every file
      passages-00000.arrow    columns id, title, text; several record batches
      ids.hash.npy            sorted 64-bit hashes of the ids, and
      ids.row.npy             the row of each
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from ragkit.corpus.ids import HASHES, ROWS, find_rows
from ragkit.errors import IndexCorrupt, InputError
from ragkit.progress import progress
from ragkit.types import Passage

MANIFEST, FORMAT, VERSION = "store.json", "ragkit.passages", 1
COLUMNS = ("id", "title", "text")
REMEDY = "rebuild it with: ragkit index corpus=FILE out=DIR overwrite=true"


class PassageStore:
    """The passages of a corpus by row and by id; nothing is in memory until it is asked for.

    ``digest`` is the sha256 of the ordered content (ids, titles, texts), whatever the sharding. Open one with
    :meth:`open`, write one with :func:`ragkit.corpus.write_store`.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder = folder
        self.digest: str = manifest["digest"]
        self._count: int = manifest["count"]
        # everything is mapped now and read later: who has a store open keeps it when another takes its place
        self._shards = [_Shard(folder / shard["file"], shard["rows"]) for shard in manifest["shards"]]
        self._hashes = _map_array(folder / HASHES, self._count)
        self._hash_rows = _map_array(folder / ROWS, self._count)
        self._starts = np.cumsum([0, *(shard.rows for shard in self._shards)], dtype=np.int64)

    @classmethod
    def open(cls, folder: Path | str, *, verify: Literal["size", "full"] = "size") -> PassageStore:
        """The store in ``folder``; checks that every file is there in its size, and with "full" its sha256.

        Raises :class:`IndexCorrupt` on a missing, truncated or altered file, or one of another format version.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        for name, wanted in progress(manifest["files"].items(), description="files checked"):
            _check_file(folder / name, wanted, verify=verify)
        return cls(folder, manifest)

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker process opens the store for itself: maps cannot be sent."""
        return (PassageStore.open, (self.folder,))

    def __len__(self) -> int:
        """Number of passages."""
        return self._count

    def take(self, rows: Sequence[int] | np.ndarray) -> list[Passage]:
        """The passages of ``rows``, in that order. Raises :class:`InputError` on a row out of range."""
        columns = self._gather(rows, COLUMNS)
        return [Passage(id=id_, title=title, text=text) for id_, title, text in zip(*columns, strict=True)]

    def rows(self, ids: Sequence[str]) -> Int64[np.ndarray, " id"]:
        """The row of every id; -1 for an unknown id."""
        return find_rows(ids, hashes=self._hashes, rows=self._hash_rows, read_ids=self.ids)

    def ids(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """The ids of ``rows``, without reading their texts."""
        return self._gather(rows, COLUMNS[:1])[0]

    def batches(self, size: int, *, start: int = 0, stop: int | None = None) -> Iterator[list[Passage]]:
        """The passages of rows ``start`` to ``stop`` in order, ``size`` at a time (the last batch may be shorter)."""
        if size < 1:
            raise InputError(f"the batch size is {size}; it must be at least 1")
        stop = len(self) if stop is None else min(stop, len(self))
        return (self.take(np.arange(at, min(at + size, stop))) for at in range(start, stop, size))

    def _gather(self, rows: Sequence[int] | np.ndarray, columns: tuple[str, ...]) -> list[list[str]]:
        wanted = np.asarray(rows, dtype=np.int64).reshape(-1)
        outside = wanted[(wanted < 0) | (wanted >= self._count)]
        if len(outside):
            raise InputError(f"row {outside[0]} is outside the store {self.folder}, which has {self._count} passages")
        out: list[list[str]] = [[""] * len(wanted) for _ in columns]
        for shard, places in _groups(np.searchsorted(self._starts, wanted, side="right") - 1):
            self._shards[shard].gather(wanted[places] - self._starts[shard], columns, places=places, out=out)
        return out


class _Shard:
    """One Arrow file, mapped at once and parsed when first used."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path, self.rows = path, rows
        self._map = pa.memory_map(str(path), "r")

    def gather(self, rows: np.ndarray, columns: tuple[str, ...], *, places: np.ndarray, out: list[list[str]]) -> None:
        """Put the values of ``rows`` into ``out[column]`` at ``places``, one gather for each record batch."""
        for which, at in _groups(np.searchsorted(self._starts, rows, side="right") - 1):
            within = rows[at] - self._starts[which]
            taken = _select(self._batches[which], within, columns, path=self.path)
            for values, column in zip(taken, out, strict=True):
                for place, value in zip(places[at].tolist(), values, strict=True):
                    column[place] = value

    @cached_property
    def _batches(self) -> list[pa.RecordBatch]:
        # the batches keep the map alive; get_batch reads lengths and offsets of buffers, not the passages
        try:
            reader = pa.ipc.open_file(self._map)
            batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        except (pa.ArrowInvalid, OSError) as error:
            raise IndexCorrupt(f"{self.path} is not a readable Arrow file ({error}); {REMEDY}") from error
        found = sum(batch.num_rows for batch in batches)
        if found != self.rows:
            raise IndexCorrupt(f"{self.path} holds {found} passages, {MANIFEST} says {self.rows}; {REMEDY}")
        return batches

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(batch.num_rows for batch in self._batches)], dtype=np.int64)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The ``store.json`` of a store; raises :class:`IndexCorrupt` where it is missing or not one of ours."""
    path = folder / MANIFEST
    if not path.is_file():
        raise IndexCorrupt(f"{folder} is no passage store: there is no {MANIFEST}; {REMEDY}")
    try:
        manifest = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise IndexCorrupt(f"{path} is not JSON ({error}); {REMEDY}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise IndexCorrupt(f"{path} does not describe a passage store (no format {FORMAT!r}); {REMEDY}")
    if manifest.get("version") != VERSION:
        found = manifest.get("version")
        raise IndexCorrupt(f"{path} has format version {found}, this ragkit reads version {VERSION}; {REMEDY}")
    missing = {"count", "digest", "shards", "files"} - manifest.keys()
    if missing or manifest["count"] != sum(shard["rows"] for shard in manifest["shards"]):
        raise IndexCorrupt(f"{path} is incomplete or altered (missing {sorted(missing)} or unequal counts); {REMEDY}")
    return manifest


def _check_file(path: Path, wanted: Mapping[str, Any], *, verify: Literal["size", "full"]) -> None:
    if not path.is_file():
        raise IndexCorrupt(f"{path} is missing ({wanted['bytes']} bytes were written); {REMEDY}")
    found = path.stat().st_size
    if found != wanted["bytes"]:
        raise IndexCorrupt(f"{path} has {found} bytes, {wanted['bytes']} were written; {REMEDY}")
    if verify == "full":
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != wanted["sha256"]:
            raise IndexCorrupt(f"{path} has sha256 {digest[:12]}, {wanted['sha256'][:12]} was written; {REMEDY}")


def _map_array(path: Path, count: int) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise IndexCorrupt(f"{path} is not a readable array ({error}); {REMEDY}") from error
    if array.shape != (count,):
        raise IndexCorrupt(f"{path} holds {array.shape} values, {count} were written; {REMEDY}")
    return array


def _groups(keys: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Every distinct key with the places where it stands."""
    order = np.argsort(keys, kind="stable")
    cuts = np.flatnonzero(np.diff(keys[order])) + 1
    for places in np.split(order, cuts) if len(order) else ():
        yield int(keys[places[0]]), places


def _select(batch: pa.RecordBatch, rows: np.ndarray, columns: tuple[str, ...], *, path: Path) -> list[list[str]]:
    # pa.array(rows) would do, but it imports pandas
    wanted = pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows))])
    try:
        return [batch.column(name).take(wanted).to_pylist() for name in columns]
    except (KeyError, pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise IndexCorrupt(f"{path} cannot be read ({error}); {REMEDY}") from error
