"""Writing a passage store: one pass over the passages, written aside and made visible by one rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ragkit.corpus.ids import HASHES, ROWS, duplicate_rows, hash_id, write_ids
from ragkit.corpus.store import COLUMNS, FORMAT, MANIFEST, VERSION, PassageStore, read_manifest
from ragkit.errors import DuplicateIds, IndexCorrupt, InputError
from ragkit.progress import progress
from ragkit.types import Passage

BATCH_ROWS = 4096  # passages in memory while writing
BATCH_BYTES = 32 << 20  # characters, rather, past which a record batch is closed: long passages stay bounded too
_SCHEMA = pa.schema([(name, pa.string()) for name in COLUMNS])
_SHOWN = 5  # duplicate ids in a message
_HASHES = "ids.hash.raw"
_UNFINISHED, _REPLACED = "unfinished", "replaced"


def write_store(
    passages: Iterable[Passage], folder: Path, *, shard_rows: int = 1 << 18, overwrite: bool = False
) -> PassageStore:
    """Write ``passages`` in order as a store in ``folder``, and open it.

    Memory does not grow with the corpus, but for 24 bytes a passage while its ids are sorted at the end. Shards of
    262,144 passages keep Wikipedia's 21 million in 81 open files. Nothing is at ``folder`` until everything is on disk.
    Raises :class:`DuplicateIds` naming the first few, and :class:`InputError` where ``folder`` exists (a store there
    is replaced with ``overwrite``), where a string is not valid Unicode, and where the disk is full.
    """
    folder = Path(folder)
    if shard_rows < 1:
        raise InputError(f"shard_rows is {shard_rows}; it must be at least 1")
    with written_aside(folder, overwrite=overwrite) as aside:
        with closing(_Writer(aside, shard_rows=shard_rows)) as writer:
            for passage in progress(passages, description="passages written"):
                writer.add(passage)
            writer.finish()
        _refuse_duplicates(aside)
    return PassageStore.open(folder)


class _Writer:
    """The open record batch, shard and digest of a store that is being written."""

    def __init__(self, folder: Path, *, shard_rows: int) -> None:
        self._folder, self._shard_rows = folder, shard_rows
        self._columns: tuple[list[str], list[str], list[str]] = ([], [], [])
        self._pending_bytes = 0
        self._digest = hashlib.sha256()
        self._shards: list[dict[str, Any]] = []
        self._arrow: Any = None
        self._hashes = (folder / _HASHES).open("wb")

    def add(self, passage: Passage) -> None:
        values = (passage.id, passage.title, passage.text)
        try:
            encoded = [value.encode() for value in values]
        except UnicodeEncodeError as error:
            row = sum(shard["rows"] for shard in self._shards) + len(self._columns[0])
            raise InputError(
                f"passage {passage.id!r} (row {row}) holds a lone surrogate, which no file can store ({error}); "
                "clean its text with ragkit.corpus.clean_text"
            ) from error
        for column, value, raw in zip(self._columns, values, encoded, strict=True):
            column.append(value)
            self._digest.update(len(raw).to_bytes(8, "little"))
            self._digest.update(raw)
            self._pending_bytes += len(raw)
        self._hashes.write(hash_id(passage.id).to_bytes(8, "little"))
        in_shard = self._shards[-1]["rows"] if self._arrow else 0
        is_full = in_shard + len(self._columns[0]) >= self._shard_rows
        if is_full or len(self._columns[0]) >= BATCH_ROWS or self._pending_bytes >= BATCH_BYTES:
            self._flush()
        if is_full:
            self._close_shard()

    def close(self) -> None:
        self._close_shard()
        self._hashes.close()

    def finish(self) -> None:
        """Write what is pending, the id lookup and ``store.json``, all of it to the disk itself."""
        self._flush()
        self.close()
        raw = self._folder / _HASHES
        write_ids(np.fromfile(raw, dtype="<u8").astype(np.uint64, copy=False), self._folder)
        raw.unlink()
        written = sorted(self._folder.iterdir())
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "count": sum(shard["rows"] for shard in self._shards),
            "digest": self._digest.hexdigest(),
            "shards": self._shards,
            "files": {path.name: _describe(path) for path in progress(written, description="files synced")},
        }
        (self._folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        sync(self._folder / MANIFEST)

    def _flush(self) -> None:
        ids, titles, texts = self._columns
        if not ids:
            return
        if self._arrow is None:
            name = f"passages-{len(self._shards):05d}.arrow"
            self._arrow = pa.ipc.new_file(str(self._folder / name), _SCHEMA)
            self._shards.append({"file": name, "rows": 0})
        self._arrow.write_batch(pa.record_batch([ids, titles, texts], schema=_SCHEMA))
        self._shards[-1]["rows"] += len(ids)
        self._columns, self._pending_bytes = ([], [], []), 0

    def _close_shard(self) -> None:
        if self._arrow is not None:
            self._arrow.close()
            self._arrow = None


def _describe(path: Path) -> dict[str, Any]:
    sync(path)
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _refuse_duplicates(folder: Path) -> None:
    store = PassageStore(folder, read_manifest(folder))
    hashes, rows = (np.load(folder / name, mmap_mode="r") for name in (HASHES, ROWS))
    first = sorted(islice(duplicate_rows(hashes, rows, store.ids), 1000), key=lambda found: found[1][1])[:_SHOWN]
    if first:
        raise DuplicateIds([(passage_id, held) for passage_id, held in first])


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def written_aside(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """A new folder beside ``folder`` that takes its name at the end, or is removed if anything went wrong."""
    _clear_leftovers(folder)
    if folder.exists():
        _refuse_to_replace(folder, overwrite=overwrite)
    aside = folder.with_name(f".{folder.name}.{_UNFINISHED}-{os.getpid()}")
    try:
        aside.mkdir(parents=True)
        yield aside
        sync(aside)
        _put_in_place(aside, folder)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        needed = sum(path.stat().st_size for path in aside.iterdir()) if aside.is_dir() else 0
        raise InputError(
            f"the disk of {folder} is full after {needed:,} bytes; nothing was changed: free space, or write elsewhere"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _clear_leftovers(folder: Path) -> None:
    """Remove what killed processes left; a store that was set aside and never replaced gets its name back."""
    for left in folder.parent.iterdir() if folder.parent.is_dir() else ():
        prefix, _, process = left.name.rpartition("-")
        if prefix not in (f".{folder.name}.{_UNFINISHED}", f".{folder.name}.{_REPLACED}") or _is_running(process):
            continue
        if prefix.endswith(_REPLACED) and not folder.exists():
            left.rename(folder)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _put_in_place(aside: Path, folder: Path) -> None:
    # who has the old store open keeps it: its files are unlinked, never truncated
    old = folder.with_name(f".{folder.name}.{_REPLACED}-{os.getpid()}")
    if folder.exists():
        folder.rename(old)
    aside.rename(folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _refuse_to_replace(folder: Path, *, overwrite: bool) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    try:
        read_manifest(folder)
    except IndexCorrupt as error:
        raise InputError(
            f"{folder} exists and is no passage store: it is not replaced; choose another folder"
        ) from error
    if not overwrite:
        raise InputError(f"{folder} already holds a passage store; replace it with overwrite=true")
