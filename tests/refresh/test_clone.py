"""An index of a run's own."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ragkit.corpus import PassageStore
from ragkit.errors import IndexMismatch, InputError
from ragkit.index import open_index
from ragkit.refresh import clone_index
from ragkit.training.refresh import Refresher


def test_a_refresh_of_the_clone_leaves_the_source_as_it_was(world: ModuleType, model_dir: Path, tmp_path: Path) -> None:
    """Silent failure: training changes the user's index under everybody else who searches it."""
    encoder = world.load_encoder(model_dir)
    world.make_index(tmp_path / "index", encoder)
    before = {path: path.read_bytes() for path in (tmp_path / "index").rglob("*") if path.is_file()}
    clone = clone_index(tmp_path / "index", tmp_path / "run" / "index")
    shared = [path for path in clone.rglob("*.npy") if path.stat().st_nlink > 1]
    assert len(shared) == 3  # vectors and the two files of ids: no copies
    world.nudge(encoder, 0)
    with Refresher(world.policy("1", keep=1), clone, encoder, PassageStore.open(clone / "corpus")) as refresher:
        refresher.step(1)
    assert [folder.name for folder in clone.glob("g0*")] == ["g000002"]
    assert {path: path.read_bytes() for path in before} == before
    assert open_index(tmp_path / "index", verify="full").generation == 1
    assert clone_index(tmp_path / "index", clone) == clone  # a resumed run keeps what it has
    assert open_index(clone).generation == 2


def test_a_clone_that_was_killed_half_way_is_made_whole(world: ModuleType, model_dir: Path, tmp_path: Path) -> None:
    encoder = world.load_encoder(model_dir)
    world.make_index(tmp_path / "index", encoder)
    clone = clone_index(tmp_path / "index", tmp_path / "clone")
    (clone / "CURRENT").unlink()
    (clone / "g000001" / "index.faiss").unlink()
    (clone / "g000001" / "vectors-00000-of-00001.npy").unlink()
    (clone / "g000001" / "vectors-00000-of-00001.npy").write_bytes(b"half")
    clone_index(tmp_path / "index", clone)
    assert len(open_index(clone, verify="full")) == 60
    np.testing.assert_array_equal(
        open_index(clone).search(np.eye(32, dtype=np.float32)[:2], 3).rows,
        open_index(tmp_path / "index").search(np.eye(32, dtype=np.float32)[:2], 3).rows,
    )


def test_an_index_of_other_passages_is_not_replaced(world: ModuleType, model_dir: Path, tmp_path: Path) -> None:
    encoder = world.load_encoder(model_dir)
    for name, count in (("one", 60), ("other", 50)):
        world.make_index(tmp_path / name, encoder, count=count)
    with pytest.raises(IndexMismatch, match="other passages"):
        clone_index(tmp_path / "one", tmp_path / "other")
    with pytest.raises(InputError, match="no index"):
        clone_index(tmp_path / "nothing", tmp_path / "target")
    assert not (tmp_path / "target").exists()
