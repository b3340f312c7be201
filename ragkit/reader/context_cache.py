"""Keys and values of passages on disk: never served to another model, bounded in size, mended when damaged."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import zlib
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ragkit.errors import ConfigError
from ragkit.failpoints import failpoint

log = logging.getLogger(__name__)
_ENDING, _ASIDE = ".safetensors", ".unfinished"
_ABANDONED = 3600.0  # seconds after which an unfinished file belongs to a process that is gone
_LEAST_FREED = 0.1  # of the bound, so that not every entry written needs a look at the folder


class ContextCache:
    """``folder/MODEL/PASSAGE.safetensors``, by the digests of model and passage; the least recently used goes first.

    Each file names its whole digests and the checksum of its content: another model's, a truncated or an altered
    file is deleted and counts as missing. Files are written aside and renamed. A disk without room costs the entry,
    not the answer. ``max_bytes`` bounds the folder, whatever models it holds; several processes may share it, each
    keeping to the bound as it saw it.
    """

    def __init__(self, folder: Path, *, max_bytes: int = 4 * 2**30) -> None:
        if max_bytes < 1:
            raise ConfigError(f"the context cache's max_bytes is {max_bytes}; it must be 1 or more")
        self.folder, self.max_bytes = folder, max_bytes
        self._size: int | None = None

    def get(self, model: str, passage: str) -> Float[Tensor, "2 layer head token dim"] | None:
        """The states kept under these digests, or None."""
        file = self._file(model, passage)
        try:
            with safe_open(file, framework="pt") as opened:
                found, states = opened.metadata() or {}, opened.get_tensor("states")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, SafetensorError) as error:
            self._discard(file, str(error))
            return None
        if found != _metadata(model, passage, states):
            self._discard(file, "its checksum or its digests are wrong")
            return None
        os.utime(file)  # the most recently used
        return cast(Tensor, states)

    def put(self, model: str, passage: str, states: Float[Tensor, "2 layer head token dim"]) -> None:
        """Keep states under these digests."""
        file = self._file(model, passage)
        aside = file.with_name(f".{file.stem}.{os.getpid()}{_ASIDE}")
        states = states.detach().cpu().contiguous()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file({"states": states}, aside, metadata=_metadata(model, passage, states))
            failpoint("context-written")
            aside.replace(file)
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                aside.unlink()
            log.warning("%s could not be kept (%s); its passage will be computed again", file, error)
            return
        self._size = self._scan() if self._size is None else self._size + file.stat().st_size
        if self._size > self.max_bytes:
            self._evict()

    def _file(self, model: str, passage: str) -> Path:
        return self.folder / model[:32] / f"{passage[:32]}{_ENDING}"

    def _discard(self, file: Path, reason: str) -> None:
        log.warning("%s is damaged (%s); its passage is computed again", file, reason)
        file.unlink(missing_ok=True)
        self._size = None

    def _entries(self) -> list[tuple[float, int, Path]]:
        """Time of last use, bytes and path of every entry; files that a dead process left are deleted."""
        found = []
        for file in self.folder.rglob("*"):
            try:
                stat = file.stat()
                if file.suffix == _ASIDE and time.time() - stat.st_mtime > _ABANDONED:
                    file.unlink()
                elif file.suffix == _ENDING:
                    found.append((stat.st_mtime, stat.st_size, file))
            except FileNotFoundError:  # another process was faster
                continue
        return sorted(found)

    def _scan(self) -> int:
        return sum(size for _, size, _ in self._entries())

    def _evict(self) -> None:
        """Delete the least recently used entries until there is some room again."""
        entries = self._entries()
        size, wanted = sum(size for _, size, _ in entries), int(self.max_bytes * (1 - _LEAST_FREED))
        for _, bytes_, file in entries:
            if size <= wanted:
                break
            file.unlink(missing_ok=True)
            size -= bytes_
        self._size = size


def _metadata(model: str, passage: str, states: Tensor) -> dict[str, str]:
    content = states.reshape(-1).view(torch.uint8).numpy().data
    return {"model": model, "passage": passage, "crc32": f"{zlib.crc32(content):08x}"}
