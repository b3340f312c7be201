"""Checkpoints: whole or not there, checked when read, and only as many as wanted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ragkit.checkpoint import checkpoint_folders, newest_checkpoint, point, prune_checkpoints, read_checkpoint
from ragkit.checkpoint import write_checkpoint as write
from ragkit.errors import CheckpointError


def _write(folder: Path, step: int) -> Path:
    tensors = {"model": {"weight": torch.full((3,), float(step)), "bias": torch.zeros(1)}, "optimizer": {}}
    return write(folder, step=step, tensors=tensors, state={"step": step})


def test_what_was_written_is_read_and_latest_points_to_it(tmp_path: Path):
    for step in (5, 10):
        _write(tmp_path, step)
    found = read_checkpoint(tmp_path / "latest")
    assert found.folder.name == "step-00000010"
    assert found.state == {"step": 10}
    assert found.tensors["model"]["weight"].tolist() == [10.0] * 3
    assert found.tensors["optimizer"] == {}
    assert newest_checkpoint(tmp_path / "none") is None


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_any_damage_is_named_and_the_one_before_is_taken(tmp_path: Path, caplog, name: str, damage: str):
    """Guards faults 5 and 6: safetensors has no checksum, so a flipped bit of a weight would pass in silence."""
    for step in (5, 10):
        _write(tmp_path, step)
    path = tmp_path / "step-00000010" / name
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(data[:-3] if damage == "truncate" else data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        read_checkpoint(tmp_path / "latest")
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.state == {"step": 5}
    assert "falling back to the checkpoint before it" in caplog.text


def test_nothing_but_damaged_checkpoints_is_an_error_not_a_new_start(tmp_path: Path):
    (_write(tmp_path, 5) / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"no whole checkpoint is left.*state\.json is missing"):
        newest_checkpoint(tmp_path)


def test_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path: Path):
    (_write(tmp_path, 5) / "state.json").write_text("{}")
    _write(tmp_path, 5)
    assert read_checkpoint(tmp_path / "latest").state == {"step": 5}


def test_unfinished_folder_of_a_killed_process_is_no_checkpoint(tmp_path: Path):
    _write(tmp_path, 5)
    aside = tmp_path / ".step-00000010.unfinished"
    aside.mkdir()
    (aside / "manifest.json").write_text(json.dumps({"files": {}}))
    assert [folder.name for folder in checkpoint_folders(tmp_path)] == ["step-00000005"]
    _write(tmp_path, 10)
    assert not aside.exists()


def test_pruning_keeps_the_newest_and_what_a_link_points_to(tmp_path: Path):
    """Guards the best checkpoint: it is often an old one."""
    for step in range(1, 6):
        _write(tmp_path, step)
    point(tmp_path / "best", tmp_path / "step-00000002")
    prune_checkpoints(tmp_path, keep=2)
    assert [folder.name for folder in checkpoint_folders(tmp_path)] == [f"step-{step:08d}" for step in (5, 4, 2)]
    assert read_checkpoint(tmp_path / "best").state == {"step": 2}
