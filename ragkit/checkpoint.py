"""Checkpoints as folders: safetensors and JSON, whole or not there at all.

``step-00000500/`` holds ``NAME.safetensors`` files, ``state.json`` and, written last, ``manifest.json`` with the size
and sha256 of each. A checkpoint is written aside, fsynced and renamed; then the link ``latest`` moves to it. A process
killed at any moment leaves the previous checkpoint as it was.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ragkit.errors import CheckpointError
from ragkit.failpoints import failpoint

log = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_STATE = "state.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint folder holds: named groups of tensors (on the CPU) and a JSON-able state."""

    folder: Path
    tensors: Mapping[str, Mapping[str, torch.Tensor]]
    state: Mapping[str, Any]


def write_checkpoint(
    folder: Path, *, step: int, tensors: Mapping[str, Mapping[str, torch.Tensor]], state: Mapping[str, Any]
) -> Path:
    """Write ``folder/step-...`` and let ``folder/latest`` point to it; the folder written.

    ``tensors`` maps a file's name (without ending) to its tensors, which must not share memory.
    """
    target = folder / f"step-{step:08d}"
    aside = folder / f".{target.name}.unfinished"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, group in tensors.items():
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in group.items()}, aside / f"{name}.safetensors"
        )
    failpoint("checkpoint-tensors")
    (aside / _STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
    files = {path.name: {"size": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(aside.iterdir())}
    failpoint("checkpoint-manifest")
    (aside / _MANIFEST).write_text(json.dumps({"version": 1, "files": files}, indent=1), encoding="utf-8")
    for path in aside.iterdir():
        _fsync(path)
    _fsync(aside)
    failpoint("checkpoint-rename")
    if target.exists():  # a damaged one of the same step, from before a fall-back
        shutil.rmtree(target)
    aside.rename(target)
    _fsync(folder)
    failpoint("checkpoint-latest")
    point(folder / "latest", target)
    return target


def point(link: Path, target: Path) -> None:
    """Let the symbolic link ``link`` point to its neighbour ``target``, atomically."""
    aside = link.with_name(f".{link.name}.unfinished")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target.name)
    aside.replace(link)
    _fsync(link.parent)


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint of one ``step-...`` folder, or of a link to it, after its manifest was checked.

    Raises:
        CheckpointError: a file is missing, or has another size or sha256 than was written.
    """
    folder = folder.resolve()
    files = _read_json(folder / _MANIFEST).get("files", {})
    for name, wanted in files.items():
        path = folder / name
        found = {"size": path.stat().st_size, "sha256": _sha256(path)} if path.is_file() else None
        if found != wanted:
            was = "is missing" if found is None else f"has {found['size']} bytes, sha256 {str(found['sha256'])[:12]}"
            raise CheckpointError(
                f"checkpoint {folder}: {name} {was}; {wanted['size']} bytes, "
                f"sha256 {wanted['sha256'][:12]} were written"
            )
    names = [name.removesuffix(".safetensors") for name in files if name.endswith(".safetensors")]
    tensors = {name: load_file(folder / f"{name}.safetensors") for name in names}
    return Checkpoint(folder, tensors, _read_json(folder / _STATE))


def checkpoint_folders(folder: Path) -> list[Path]:
    """The ``step-...`` folders, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint, or None where there is none yet; a damaged one is passed over with a warning.

    Raises:
        CheckpointError: there are checkpoints and all are damaged.
    """
    faults: list[str] = []
    for candidate in checkpoint_folders(folder):
        try:
            found = read_checkpoint(candidate)
        except CheckpointError as error:
            log.warning("%s; falling back to the checkpoint before it", error)
            faults.append(str(error))
            continue
        return found
    if faults:
        raise CheckpointError("no whole checkpoint is left; start again with another out=. " + "; ".join(faults))
    return None


def prune_checkpoints(folder: Path, *, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints; one that a link (``latest``, ``best``) points to stays."""
    linked = {path.resolve() for path in folder.iterdir() if path.is_symlink()}
    for old in checkpoint_folders(folder)[keep:]:
        if old.resolve() not in linked:
            (old / _MANIFEST).unlink(missing_ok=True)  # half deleted must not look whole
            shutil.rmtree(old)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path.parent}: cannot read {path.name} ({error})") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"checkpoint {path.parent}: {path.name} holds no JSON object")
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
