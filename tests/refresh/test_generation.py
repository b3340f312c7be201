"""The next generation: what decides its content, what is gone on with, what its files say."""

from __future__ import annotations

import errno
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ragkit.errors import DiskFull, IndexMismatch
from ragkit.index import Manifest, live_generation, open_index
from ragkit.refresh import NextGeneration, RefreshJob, Sample, make_generation, passage_digest, read_record
from ragkit.refresh.background import Request
from ragkit.refresh.make import Made
from ragkit.retriever import DualEncoder


@pytest.fixture
def encoder(world: ModuleType, model_dir: Path) -> DualEncoder:
    return world.load_encoder(model_dir)


def test_an_unfinished_generation_is_gone_on_with_by_the_same_weights_and_cleared_away_by_others(
    world: ModuleType, encoder: DualEncoder, tmp_path: Path
) -> None:
    """Silent failure: vectors of two states of the weights in one generation."""
    store = world.make_index(tmp_path / "index", encoder)
    world.nudge(encoder, 0)
    job = RefreshJob(tmp_path / "index", 1, shard_rows=20)
    first = NextGeneration(job, encoder, store)
    first.begin()
    first.encode(rank=1, world=3)
    assert not first.is_encoded()
    (first.folder / ".vectors-left.npy.1.part").write_bytes(b"half")
    (first.folder / ".encoder-left").mkdir()
    (shard,) = first.folder.glob("vectors-*.npy")
    inode = shard.stat().st_ino
    second = NextGeneration(job, encoder, store)
    second.begin()
    assert second.folder == first.folder
    assert not list(second.folder.glob(".*"))
    made = make_generation(second, Sample())
    assert (shard.stat().st_ino, made.encoded, made.generation) == (inode, 60, 2)
    world.nudge(encoder, 1)
    third = NextGeneration(job, encoder, store)
    third.begin()
    assert not list(third.folder.glob("vectors-*"))


def test_only_the_passages_own_weights_are_in_their_digest(world: ModuleType, model_dir: Path) -> None:
    encoder = world.load_encoder(model_dir, shared=False)
    before = passage_digest(encoder)
    world.nudge(encoder, 0, only="towers.query")
    assert passage_digest(encoder) == before
    world.nudge(encoder, 0, only="towers.passage")
    assert passage_digest(encoder) != before


def test_what_a_generation_says_of_itself(world: ModuleType, encoder: DualEncoder, tmp_path: Path) -> None:
    store = world.make_index(tmp_path / "index", encoder)
    world.nudge(encoder, 0)
    generation = NextGeneration(RefreshJob(tmp_path / "index", 7, "hot", reference="mine"), encoder, store)
    generation.begin(np.array([2, 5]))
    made = make_generation(generation, Sample(("fox river",), k=2, pool=10))
    assert live_generation(tmp_path / "index").name == "g000001"  # switching is another step
    manifest = Manifest.load(generation.folder)
    record = read_record(generation.folder)
    assert record == {"update": 7, "scope": "hot", "encoded": 2, "encoder": encoder.digest, "passages": ""}
    assert manifest.encoder is not None
    assert manifest.encoder.reference == "mine"
    assert manifest.encoder.digest != encoder.digest
    assert {"rows.npy", "refresh.json", "encoder/modules.json"} <= set(manifest.files)
    assert Made.from_json(made.to_json()) == made
    assert read_record(tmp_path / "index" / "g000001") == {}
    request = Request(generation.job, "abc", "cpu", "float32", Sample(("a", "b")), rank=1, world=2)
    assert Request.from_json(request.to_json()) == request


def test_a_disk_that_runs_full_keeps_the_live_generation_and_says_so(
    world: ModuleType, encoder: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = world.make_index(tmp_path / "index", encoder)
    world.nudge(encoder, 0)
    generation = NextGeneration(RefreshJob(tmp_path / "index", 1), encoder, store)
    generation.begin()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(generation.writer, "seal", full)
    with pytest.raises(DiskFull, match="g000001 is still live"):
        make_generation(generation, Sample())
    assert not generation.folder.exists()
    assert len(open_index(tmp_path / "index", verify="full")) == 60


def test_an_index_without_vectors_is_refused(world: ModuleType, encoder: DualEncoder, tmp_path: Path) -> None:
    store = world.make_index(tmp_path / "index", encoder)
    manifest = Manifest.load(tmp_path / "index" / "g000001").to_json() | {"kind": "bm25", "dim": None}
    (tmp_path / "index" / "g000001" / "manifest.json").write_text(world.json.dumps(manifest))
    with pytest.raises(IndexMismatch, match="bm25 index"):
        NextGeneration(RefreshJob(tmp_path / "index", 1), encoder, store)
