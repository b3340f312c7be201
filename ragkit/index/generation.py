"""Generations of an index directory: written aside, fsynced, verified, made live by one rename of ``CURRENT``.

The folder after the live one (``g000004`` while ``CURRENT`` says ``g000003``) is the one being built. One writer
at a time holds a lock that dies with its process; readers need none.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ragkit.errors import DiskFull, IndexBusy, IndexCorrupt, InputError
from ragkit.failpoints import failpoint
from ragkit.index.manifest import NAME, FileEntry, Manifest, sha256_of

CURRENT = "CURRENT"
LOCK = ".ragkit-index.lock"
PLAN = "plan.json"

_GENERATION = re.compile(r"^g(\d{6,})$")


def live_generation(index_dir: Path) -> Path:
    """The folder of the live generation.

    Raises:
        InputError: there is no index in ``index_dir``.
        IndexCorrupt: the build did not finish, or ``CURRENT`` leads nowhere.
    """
    try:
        name = (index_dir / CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        if not is_index_dir(index_dir):
            raise InputError(
                f"there is no index in {index_dir}; build one: ragkit index corpus=FILE out={index_dir}"
            ) from error
        raise IndexCorrupt(
            f"the index in {index_dir} is an unfinished build; run the same ragkit index command again, it resumes"
        ) from error
    if not _GENERATION.match(name) or not (index_dir / name).is_dir():
        raise IndexCorrupt(
            f"{index_dir / CURRENT} names the generation {name[:40]!r}, which is not there; "
            f"build the index again: ragkit index corpus=FILE out={index_dir}"
        )
    return index_dir / name


def is_index_dir(folder: Path) -> bool:
    """Whether ``folder`` is ours: an index, or the beginning of one."""
    return (folder / LOCK).is_file() or (folder / CURRENT).is_file()


def prune(index_dir: Path, *, keep: int = 2, spare: Collection[int] = ()) -> list[Path]:
    """Delete all but the ``keep`` newest finished generations, never the live one; the folders deleted.

    The generations of the numbers ``spare`` stay and do not count: a checkpoint may need them. A reader that has
    opened a deleted generation keeps its files: they are unlinked, not overwritten.
    """
    live = live_generation(index_dir)
    older = sorted((folder for folder in _generations(index_dir) if folder.name < live.name), reverse=True)
    older = [folder for folder in older if int(folder.name[1:]) not in spare]
    doomed = older[max(keep - 1, 0) :]
    for folder in doomed:
        shutil.rmtree(folder)
    return doomed


class IndexWriter:
    """The one writer of an index directory, from :func:`index_writer`."""

    def __init__(self, index_dir: Path) -> None:
        self.index_dir = index_dir
        self._bytes_needed = 0
        self.live = _live_or_none(index_dir)
        # where CURRENT is lost its generations may still be looked at: take a number none of them has
        others = [] if self.live or not (index_dir / CURRENT).is_file() else _generations(index_dir)
        last = self.live or max(others, default=None)
        self.number = int(last.name[1:]) + 1 if last else 1
        self.folder = index_dir / f"g{self.number:06d}"

    def begin(self, plan: Mapping[str, Any] | None, *, bytes_needed: int = 0) -> Path:
        """The folder to write the next generation into; what an unfinished build of the same plan left stays in it.

        ``plan`` is whatever decides the content (digests, parameters; JSON values); None never resumes. Another
        plan's leftovers are deleted. ``bytes_needed`` is named if the disk runs full.
        """
        self._bytes_needed = bytes_needed
        for folder in _generations(self.index_dir):
            is_unfinished = self.live is None or folder.name > self.live.name
            if is_unfinished and not (folder == self.folder and plan is not None and _read_plan(folder) == plan):
                shutil.rmtree(folder)
        self.folder.mkdir(exist_ok=True)
        for partial in self.folder.glob(".*"):  # what a killed process was writing
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
        (self.folder / PLAN).write_text(json.dumps(plan, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return self.folder

    def seal(self, manifest: Manifest) -> Manifest:
        """Put size and sha256 of every file into the manifest, write it, fsync all, verify; the manifest as written."""
        files = {
            path.relative_to(self.folder).as_posix(): FileEntry(path.stat().st_size, sha256_of(path))
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.relative_to(self.folder).as_posix() not in {NAME, PLAN}
        }
        manifest = replace(manifest, files=files)
        manifest.save(self.folder)
        for path in [*self.folder.rglob("*"), self.folder, self.index_dir]:
            _fsync(path)
        Manifest.load(self.folder).verify(self.folder)
        failpoint("index.sealed")
        return manifest

    def make_live(self, *, keep: int = 2, spare: Collection[int] = ()) -> Path:
        """Point ``CURRENT`` at the sealed generation, in one rename, and prune as :func:`prune` does; its folder."""
        failpoint("index.before_current")
        self._point_to(self.folder)
        failpoint("index.after_current")
        (self.folder / PLAN).unlink(missing_ok=True)
        prune(self.index_dir, keep=keep, spare=spare)
        return self.folder

    def go_back(self, number: int) -> Path:
        """Make the earlier generation ``number`` live again; later ones stay until the next build; its folder.

        Raises:
            IndexCorrupt: it is not there any more, or not whole; nothing has changed then.
        """
        folder = self.index_dir / f"g{number:06d}"
        Manifest.load(folder).verify(folder)
        self._point_to(folder)
        return folder

    def _point_to(self, folder: Path) -> None:
        temporary = self.index_dir / f"{CURRENT}.tmp"
        temporary.write_text(f"{folder.name}\n", encoding="utf-8")
        _fsync(temporary)
        temporary.replace(self.index_dir / CURRENT)
        _fsync(self.index_dir)

    def disk_full(self) -> DiskFull:
        """The error for a full disk; removes the generation that was being written, so that there is room again."""
        shutil.rmtree(self.folder, ignore_errors=True)
        free = shutil.disk_usage(self.index_dir).free
        kept = f"generation {self.live.name} is still live" if self.live else "there was no earlier generation"
        needed = f"about {self._bytes_needed:,} bytes" if self._bytes_needed else "more bytes"
        return DiskFull(
            f"the disk of {self.index_dir} is full: {self.folder.name} needs {needed} and {free:,} are free now that "
            f"the unfinished files are removed; {kept}. Make room, or choose out= on another disk, and run again"
        )


@contextmanager
def index_writer(index_dir: Path) -> Iterator[IndexWriter]:
    """Lock ``index_dir`` for writing, made if it is not there.

    Raises:
        InputError: the folder holds something that is not an index; nothing in it is touched.
        IndexBusy: another process is writing it.
        DiskFull: the disk ran full inside the block; the unfinished generation is removed, the old one kept.
    """
    if index_dir.exists() and not (index_dir.is_dir() and (is_index_dir(index_dir) or not any(index_dir.iterdir()))):
        raise InputError(f"{index_dir} exists and is not an index; choose another out= or an empty folder")
    index_dir.mkdir(parents=True, exist_ok=True)
    with (index_dir / LOCK).open("a+", encoding="utf-8") as lock:
        _take(lock.fileno(), index_dir)
        writer = IndexWriter(index_dir)
        try:
            yield writer
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise writer.disk_full() from error
        finally:
            if [path.name for path in index_dir.iterdir()] == [LOCK]:  # nothing was begun: leave no trace
                (index_dir / LOCK).unlink()


def is_disk_full(error: OSError) -> bool:
    """Whether an error means that there is no room; numpy's short write carries no errno, only its sentence."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT} or (error.errno is None and "requested and" in str(error))


def _take(descriptor: int, index_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise IndexBusy(
            f"another process is writing the index {index_dir}; wait until it is done, or choose another out="
        ) from error


def _live_or_none(index_dir: Path) -> Path | None:
    """The live generation; None before the first, and where ``CURRENT`` is damaged, which a new build mends."""
    try:
        return live_generation(index_dir)
    except IndexCorrupt:
        return None


def _generations(index_dir: Path) -> list[Path]:
    return sorted(path for path in index_dir.iterdir() if _GENERATION.match(path.name) and path.is_dir())


def _read_plan(folder: Path) -> object:
    try:
        return json.loads((folder / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
