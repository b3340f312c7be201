"""The refresh in another process: when it goes live, and what a death of either side leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ragkit.corpus import PassageStore
from ragkit.errors import CheckpointError, RefreshFailed
from ragkit.index import open_index
from ragkit.refresh import clone_index
from ragkit.retriever import DualEncoder
from ragkit.training.refresh import Refresher

HERE = Path(__file__).parent


def start(world: ModuleType, index_dir: Path, encoder: DualEncoder, **settings: Any) -> Refresher:
    store = PassageStore.open(index_dir / "corpus")
    policy = world.policy(mode="async", **settings)
    return Refresher(policy, index_dir, encoder, store, queries=world.QUESTIONS)


def worker_pid(refresher: Refresher) -> int:
    process = refresher._background._worker._process
    assert process is not None
    return process.pid


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_until_ended(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


def test_goes_live_at_its_update_with_the_vectors_of_the_weights_it_began_with(
    world: ModuleType, encoder: DualEncoder, index_dir: Path
) -> None:
    """Silent failure: vectors of weights that moved while passages were encoded.

    A refresh that fails in the worker fails in the trainer too, and says why.
    """
    events = []
    with start(world, index_dir, encoder, schedule="10", lag=0.3) as refresher:
        for update in range(10, 25):
            world.nudge(encoder, update)
            if update == 10:
                store = refresher.store
                wanted = encoder.encode_passages(store.take(np.arange(len(store))))
            event = refresher.step(update)
            if update == 13:
                first = np.load(next(refresher.retriever.index.folder.glob("vectors-*.npy")))
            if event:
                events.append((update, event.kind, event.began, event.made.generation))
                json.dumps(event.figures())
                assert ("refresh_overlap_before" in event.figures()) == (event.kind == "switched")
        next(iter(encoder.parameters())).data.fill_(np.nan)
        started = refresher.step(30)
        assert started is not None
        assert started.kind == "started"
        state = refresher.state()
        with pytest.raises(RefreshFailed, match=r"NaN or infinite vectors .*p0"):
            refresher.step(33)
        assert refresher.generation == 3
        for path in (index_dir / "g000004").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with pytest.raises(CheckpointError, match="weights that it began with"):
            refresher.load(state)
    assert events == [(10, "started", 10, 2), (13, "switched", 10, 2), (20, "started", 20, 3), (23, "switched", 20, 3)]
    np.testing.assert_allclose(first, wanted, atol=1e-6)
    assert workers_of(os.getpid()) == []
    assert len(open_index(index_dir, verify="full")) == 60


@pytest.fixture(scope="module")
def unbroken(world: ModuleType, model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The index that a run began with, and what one that is never stopped must find, by brute force.

    A refresh begins at updates 5, 10 and 15 and goes live three updates later: half of the rate.
    """
    encoder, index_dir = world.load_encoder(model_dir), tmp_path_factory.mktemp("unbroken") / "index"
    store, vectors, wanted = world.make_index(index_dir, encoder), [], []
    for update in range(20):
        if update % 5 == 0:
            vectors.append(encoder.encode_passages(store.take(np.arange(60))))
        live = 0 if update < 8 else (update - 3) // 5
        queries = encoder.encode_queries(world.QUESTIONS[update : update + 2])
        scores = np.einsum("qd,pd->qp", queries.astype(np.float64), vectors[live].astype(np.float64))
        best = np.argsort(-scores.astype(np.float32), axis=1, kind="stable")[:, :4]
        wanted.append([live + 1, *best.flatten().tolist()])
        world.nudge(encoder, update)
    return index_dir, wanted


def workers_of(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if "ragkit.refresh.worker" in words and str(parent) in words and is_running(int(folder.name)):
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize(
    "place",
    [
        "index.after_current:1",
        pytest.param("index.before_current:2", marks=pytest.mark.slow),
        pytest.param("refresh.begun:2", marks=pytest.mark.slow),
        pytest.param("refresh.submitted:1", marks=pytest.mark.slow),
        pytest.param("refresh.submitted:2", marks=pytest.mark.slow),
    ],
)
def test_a_killed_trainer_leaves_no_orphan_and_resumes_as_if_unbroken(
    world: ModuleType, model_dir: Path, unbroken: tuple[Path, Any], tmp_path: Path, *, place: str
) -> None:
    """Faults 2 and 24. Silent failure: a worker that goes on writing, or a switch at another update than before."""
    index, wanted = unbroken
    clone_index(index, tmp_path / "index")
    command = [sys.executable, str(HERE / "refreshing.py"), str(model_dir), str(tmp_path), "mode=async"]
    with subprocess.Popen(command, env={**os.environ, "RAGKIT_FAILPOINT": place}, stderr=subprocess.PIPE) as killed:
        _, errors = killed.communicate(timeout=240)
    assert killed.returncode == -signal.SIGKILL, errors.decode()
    deadline = time.monotonic() + 60  # one that was still importing torch sees it when that is done
    while workers_of(killed.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert workers_of(killed.pid) == []
    assert len(open_index(tmp_path / "index", verify="full")) == 60
    assert world.run(model_dir, tmp_path, mode="async") == wanted
    assert [line[0] for line in wanted] == [1] * 8 + [2] * 5 + [3] * 5 + [4] * 2


@pytest.mark.slow
@pytest.mark.parametrize("place", ["refresh.encoded", "index.sealed"])
def test_a_worker_that_dies_twice_ends_the_run_with_its_reason_and_a_whole_index(
    world: ModuleType,
    model_dir: Path,
    unbroken: tuple[Path, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    place: str,
) -> None:
    index, wanted = unbroken
    clone_index(index, tmp_path / "index")
    monkeypatch.setenv("RAGKIT_FAILPOINT", place)
    with pytest.raises(RefreshFailed, match="killed by signal 9"):
        world.run(model_dir, tmp_path, mode="async")
    assert open_index(tmp_path / "index", verify="full").generation == 1
    monkeypatch.delenv("RAGKIT_FAILPOINT")
    assert world.run(model_dir, tmp_path, mode="async") == wanted


@pytest.mark.slow
def test_a_worker_that_dies_once_is_replaced_and_nothing_is_lost(
    world: ModuleType, encoder: DualEncoder, index_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start(world, index_dir, encoder, schedule="1", lag=1) as refresher:
        os.kill(worker_pid(refresher), signal.SIGKILL)
        assert wait_until_ended(worker_pid(refresher))
        world.nudge(encoder, 1)
        refresher.step(1)
        assert "it was idle, another takes its place" in caplog.text
        os.kill(worker_pid(refresher), signal.SIGKILL)
        event = refresher.step(2)
        assert event is not None
        assert event.kind == "switched"
        assert "starting another, once" in caplog.text
        store = refresher.store
        wanted = encoder.encode_passages(store.take(np.arange(len(store))))
        found = np.load(next(refresher.retriever.index.folder.glob("vectors-*.npy")))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert len(open_index(index_dir, verify="full")) == 60
