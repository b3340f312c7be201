"""The index follows the encoder: property 7 and 8, resume, and what is on disk meanwhile."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ragkit.corpus import PassageStore
from ragkit.errors import CheckpointError, ConfigError, IndexBusy, IndexMismatch, NonFiniteVectors
from ragkit.index import IndexSpec, index_writer, open_index
from ragkit.refresh import clone_index
from ragkit.retriever import DualEncoder
from ragkit.retriever.open import open_retriever
from ragkit.training.refresh import Refresher


def start(world: ModuleType, index_dir: Path, encoder: DualEncoder, **settings: Any) -> Refresher:
    store = PassageStore.open(index_dir / "corpus")
    return Refresher(world.policy(**settings), index_dir, encoder, store, queries=world.QUESTIONS)


def stored_vectors(index_dir: Path) -> np.ndarray:
    return np.load(next(open_index(index_dir).folder.glob("vectors-*.npy")))


def fresh_vectors(encoder: DualEncoder, index_dir: Path) -> np.ndarray:
    store = PassageStore.open(index_dir / "corpus")
    return encoder.encode_passages(store.take(np.arange(len(store))))


@pytest.mark.parametrize(
    ("schedule", "wanted"), [("10", [10, 20]), ("300", []), ("0-6:2,6-:10", [2, 4, 6, 16, 26]), ("never", [])]
)
def test_index_is_rebuilt_on_exactly_the_scheduled_updates(
    world: ModuleType, encoder: DualEncoder, index_dir: Path, schedule: str, wanted: list[int]
) -> None:
    """Property 7. At update 0 the index is that of the encoder, and nothing is to be done."""
    done = []
    with start(world, index_dir, encoder, schedule=schedule) as refresher:
        for update in range(28):
            event = refresher.step(update)
            if event:
                done.append(update)
                assert event.kind == "switched"
                assert event.made.generation == refresher.generation == 1 + len(done)
            world.nudge(encoder, update)
    assert done == wanted


def test_stored_vectors_are_the_present_encoders_after_a_refresh_and_not_one_update_later(
    world: ModuleType, encoder: DualEncoder, index_dir: Path
) -> None:
    """Property 7."""
    with start(world, index_dir, encoder, schedule="3") as refresher:
        for update in range(3):
            world.nudge(encoder, update)
        assert np.abs(stored_vectors(index_dir) - fresh_vectors(encoder, index_dir)).max() > 1e-3
        assert refresher.step(3) is not None
        assert np.abs(stored_vectors(index_dir) - fresh_vectors(encoder, index_dir)).max() < 1e-6
        world.nudge(encoder, 3)
        assert np.abs(stored_vectors(index_dir) - fresh_vectors(encoder, index_dir)).max() > 1e-3


def test_a_drifting_encoder_loses_recall_and_a_refresh_restores_it(
    world: ModuleType, encoder: DualEncoder, index_dir: Path
) -> None:
    """Property 8: recall@10 of the stale index falls with the drift, and a refresh restores 1.0 each time."""
    recalls = []
    for update, size in enumerate((0.02, 0.1, 0.5), start=1):
        with start(world, index_dir, encoder, schedule="1") as refresher:
            world.nudge(encoder, 7, size=size)
            recalls.append(recall_at_10(world, refresher))
            refresher.step(update)
            assert recall_at_10(world, refresher) == 1.0
    assert recalls == sorted(recalls, reverse=True)
    assert recalls[0] > recalls[-1]
    assert recalls[-1] < 0.9


def test_without_a_refresh_the_staleness_is_known_all_the_same(
    world: ModuleType, encoder: DualEncoder, index_dir: Path
) -> None:
    """refresh=never is the mode in which an index goes stale unseen; with a schedule the refreshes tell."""
    with start(world, index_dir, encoder, schedule="never") as refresher:
        assert refresher.overlap() == 1.0
        overlaps = []
        for size in (0.02, 0.5):
            world.nudge(encoder, 7, size=size)
            overlaps.append(refresher.overlap())
        assert overlaps == sorted(overlaps, reverse=True)
        assert overlaps[1] < 0.9
    with start(world, index_dir, encoder, schedule="4") as refresher:
        assert refresher.overlap() is None


def recall_at_10(world: ModuleType, refresher: Refresher) -> float:
    vectors = refresher.encoder.encode_queries(world.QUESTIONS)
    exact = np.argsort(-(vectors @ fresh_vectors(refresher.encoder, refresher.index_dir).T), axis=1, kind="stable")
    found = refresher.retriever.search(world.QUESTIONS, k=10).rows
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact[:, :10], strict=True)]))


def test_a_frozen_passage_tower_needs_no_refresh_and_its_vectors_are_linked_at_the_end(
    world: ModuleType, model_dir: Path, tmp_path: Path
) -> None:
    """Property 8, and query-side training: the same vectors, made again, would only cost time."""
    encoder, index_dir = world.load_encoder(model_dir, shared=False), tmp_path / "index"
    world.make_index(index_dir, encoder)
    with start(world, index_dir, encoder, schedule="2") as refresher:
        for update in range(6):
            assert refresher.step(update) is None
            world.nudge(encoder, update, only="towers.query")
        event = refresher.refresh(6)
        assert event is not None
        assert event.made.encoded == 0
        assert refresher.refresh(6) is None
    first, second = (next((index_dir / name).glob("vectors-*.npy")) for name in ("g000001", "g000002"))
    assert first.samefile(second)
    assert open_retriever(index_dir, encoder=encoder).search(world.QUESTIONS[:2], k=3).rows.shape == (2, 3)
    world.nudge(encoder, 9, only="towers.passage")  # the control
    with start(world, index_dir, encoder, schedule="2") as refresher:
        event = refresher.step(2)
        assert event is not None
        assert event.made.encoded == 60


def test_a_refreshed_index_opens_by_itself_with_the_weights_that_made_it(
    world: ModuleType, encoder: DualEncoder, index_dir: Path
) -> None:
    """Silent failure: the manifest names the model that training began with, and an evaluation encodes with that."""
    world.nudge(encoder, 0)
    with start(world, index_dir, encoder, schedule="1") as refresher:
        refresher.step(1)
        wanted = refresher.retriever.search(world.QUESTIONS[:4], k=5)
    world.nudge(encoder, 1)
    found = open_retriever(index_dir, device="cpu").search(world.QUESTIONS[:4], k=5)
    np.testing.assert_array_equal(found.rows, wanted.rows)
    with pytest.raises(IndexMismatch, match="encoder"):
        open_retriever(index_dir, encoder=encoder)


@pytest.mark.parametrize("spec", [IndexSpec("ivf", nlist=4, search="nprobe=4"), IndexSpec("hnsw", metric="cosine")])
def test_the_next_generation_is_of_the_same_kind(
    world: ModuleType, encoder: DualEncoder, tmp_path: Path, spec: IndexSpec
) -> None:
    world.make_index(tmp_path / "index", encoder, spec=spec)
    world.nudge(encoder, 0)
    with start(world, tmp_path / "index", encoder, schedule="1") as refresher:
        refresher.step(1)
        manifest = refresher.retriever.index.manifest
    assert (manifest.kind, manifest.parameters) == (spec.kind, spec.parameters)
    assert manifest.vectors is not None
    assert (manifest.vectors.metric, manifest.origin.generation) == (spec.metric, 2)


def test_what_was_done_is_told_for_the_log(world: ModuleType, encoder: DualEncoder, index_dir: Path) -> None:
    with start(world, index_dir, encoder, schedule="1") as refresher:
        world.nudge(encoder, 0, size=0.5)
        event = refresher.step(1)
        assert event is not None
        figures = event.figures()
    assert figures["refresh"] == "switched"
    assert (figures["refresh_generation"], figures["refresh_encoded"], figures["refresh_began"]) == (2, 60, 1)
    assert 0 < figures["refresh_seconds"] <= figures["refresh_waited"]
    assert 0 < figures["refresh_share"] <= 1
    assert figures["refresh_overlap_before"] == figures["refresh_overlap_previous"] < 1
    assert figures["refresh_overlap_after"] == 1
    json.dumps(figures)


def test_an_update_in_no_range_is_said_once(
    world: ModuleType, encoder: DualEncoder, index_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Silent failure: a schedule that ends before the training does, and nobody notices."""
    with start(world, index_dir, encoder, schedule="0-3:2,5-9:2") as refresher:
        for update in range(7):
            refresher.step(update)
    assert [record.args[0] for record in caplog.records if "in no range" in record.message] == [3]


def test_a_second_call_for_the_same_update_does_nothing(
    world: ModuleType, encoder: DualEncoder, index_dir: Path
) -> None:
    world.nudge(encoder, 0)
    with start(world, index_dir, encoder, schedule="1") as refresher:
        assert refresher.step(1) is not None
        world.nudge(encoder, 1)
        assert refresher.step(1) is None
        assert refresher.step(2) is not None


def test_drift_refreshes_only_where_the_overlap_is_below_the_threshold(
    world: ModuleType, encoder: DualEncoder, index_dir: Path
) -> None:
    with start(world, index_dir, encoder, schedule="2", mode="drift", threshold=0.95) as refresher:
        world.nudge(encoder, 0, size=0.001)
        kept = refresher.step(2)
        assert kept is not None
        assert (kept.kind, refresher.generation) == ("kept", 1)
        assert kept.made.overlaps.before is not None
        assert kept.made.overlaps.before >= 0.95
        assert kept.made.encoded < 60
        world.nudge(encoder, 1, size=1.0)
        assert refresher.step(3) is None  # far, but not due
        switched = refresher.step(4)
        assert switched is not None
        assert (switched.kind, refresher.generation) == ("switched", 2)
        assert switched.made.overlaps.before is not None
        assert switched.made.overlaps.before < 0.95


def test_hot_encodes_what_was_found_and_a_sample_and_says_what_that_costs(
    world: ModuleType, encoder: DualEncoder, index_dir: Path
) -> None:
    """Silent failure: the rest of the vectors are lost, or the index claims to be of one encoder."""
    before, found = stored_vectors(index_dir), np.array([[3, 8, 41], [8, 59, -1]])
    world.nudge(encoder, 0, size=0.3)
    with start(world, index_dir, encoder, schedule="1", scope="hot", share=0.1) as refresher:
        event = refresher.step(1, searched_rows=found)
    assert event is not None
    assert event.made.encoded == 4 + 6
    rows = np.load(index_dir / "g000002" / "rows.npy")
    assert {3, 8, 41, 59} <= set(rows.tolist())
    after, fresh = stored_vectors(index_dir), fresh_vectors(encoder, index_dir)
    np.testing.assert_allclose(after[rows], fresh[rows], atol=1e-6)
    others = np.setdiff1d(np.arange(60), rows)
    np.testing.assert_array_equal(after[others], before[others])
    overlaps = event.made.overlaps
    assert overlaps.before is not None
    assert overlaps.after is not None
    assert overlaps.before < 1
    assert overlaps.after < 1
    with pytest.raises(IndexMismatch, match="encoder"):
        open_retriever(index_dir, encoder=encoder)
    with start(world, index_dir, encoder, schedule="1") as refresher:  # mixed vectors are not taken for fresh ones
        assert refresher.refresh(1) is not None
    np.testing.assert_allclose(stored_vectors(index_dir), fresh, atol=1e-6)


def test_old_generations_are_pruned_but_for_those_a_checkpoint_needs(
    world: ModuleType, encoder: DualEncoder, index_dir: Path
) -> None:
    def there() -> list[int]:
        return sorted(int(folder.name[1:]) for folder in index_dir.glob("g0*"))

    with start(world, index_dir, encoder, schedule="1", keep=2) as refresher:
        refresher.step(0)
        state = refresher.state()
        for update in range(1, 5):
            world.nudge(encoder, update)
            refresher.step(update)
        assert there() == [1, 4, 5]
        refresher.load(state)
        assert refresher.generation == 1
        for _ in range(3):
            refresher.state()
        world.nudge(encoder, 5)
        refresher.step(1)
        assert there() == [1, 2]


def test_a_state_whose_generation_is_gone_is_refused(world: ModuleType, encoder: DualEncoder, index_dir: Path) -> None:
    with start(world, index_dir, encoder, schedule="1") as refresher:
        state = refresher.state()
        with pytest.raises(CheckpointError, match="generation 7 of"):
            refresher.load({**state, "generation": 7})


PLACES = ["refresh.begun:2", "refresh.encoded:2", "index.sealed:2", "index.before_current:2", "index.after_current:3"]


@pytest.fixture(scope="module")
def unbroken(world: ModuleType, model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of runs that were never stopped, by scope, and the index that they began with."""
    folder = tmp_path_factory.mktemp("unbroken")
    world.make_index(folder / "index", world.load_encoder(model_dir))
    for scope in ("all", "hot"):
        clone_index(folder / "index", folder / scope / "index")
        world.run(model_dir, folder / scope, scope=scope)
    return {"index": folder / "index", "all": folder / "all", "hot": folder / "hot"}


@pytest.mark.parametrize(
    ("place", "scope"),
    [
        *((place, "all") for place in PLACES),
        ("refresh.hot_window:2", "hot"),
    ],
)
@pytest.mark.slow
def test_killed_during_a_refresh_and_resumed_finds_what_an_unbroken_run_found(
    world: ModuleType,
    unbroken: dict[str, Path],
    model_dir: Path,
    tmp_path: Path,
    run_script: Any,
    *,
    place: str,
    scope: str,
) -> None:
    """Faults 2 and 24. Silent failure: the resumed run searches an index of weights that it does not have yet."""
    clone_index(unbroken["index"], tmp_path / "index")
    killed = run_script("refreshing", model_dir, tmp_path, f"scope={scope}", failpoint=place)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(open_index(tmp_path / "index", verify="full")) == 60
    found = world.run(model_dir, tmp_path, scope=scope)
    assert found == json.loads((unbroken[scope] / "lines.json").read_text())
    assert {line[0] for line in found} == {1, 2, 3, 4}
    assert not list((tmp_path / "index").rglob("plan.json"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_leave_the_live_generation(
    world: ModuleType, encoder: DualEncoder, index_dir: Path, value: float
) -> None:
    with start(world, index_dir, encoder, schedule="1") as refresher:
        next(iter(encoder.parameters())).data.fill_(value)
        with pytest.raises(NonFiniteVectors, match="p0"):
            refresher.refresh(1)
        assert refresher.generation == 1
    assert len(open_index(index_dir, verify="full")) == 60


def test_nobody_else_writes_the_index_meanwhile(world: ModuleType, encoder: DualEncoder, index_dir: Path) -> None:
    refresher = start(world, index_dir, encoder)
    with pytest.raises(IndexBusy), index_writer(index_dir):
        pass
    refresher.close()
    with index_writer(index_dir):
        pass


def test_another_corpus_is_refused(world: ModuleType, encoder: DualEncoder, index_dir: Path, tmp_path: Path) -> None:
    world.make_index(tmp_path / "other", encoder, count=59)
    store = PassageStore.open(tmp_path / "other" / "corpus")
    with pytest.raises(IndexMismatch, match="corpus"):
        Refresher(world.policy(), index_dir, encoder, store)


def test_drift_needs_queries(world: ModuleType, encoder: DualEncoder, index_dir: Path) -> None:
    store = PassageStore.open(index_dir / "corpus")
    with pytest.raises(ConfigError, match="queries"):
        Refresher(world.policy(mode="drift"), index_dir, encoder, store)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "scope", "sharded"), [("sync", "all", "true"), ("sync", "hot", "false"), ("async", "hot", "true")]
)
def test_two_processes_share_the_passages_and_find_what_one_finds_also_after_one_goes_on_alone(
    world: ModuleType,
    unbroken: dict[str, Path],
    model_dir: Path,
    tmp_path: Path,
    run_script: Any,
    *,
    mode: str,
    scope: str,
    sharded: str,
) -> None:
    """Fault 25. Silent failure: a process that searches the generation before, or a share that nobody encoded."""
    clone_index(unbroken["index"], tmp_path / "one" / "index")
    wanted = world.run(model_dir, tmp_path / "one", mode=mode, scope=scope)
    clone_index(unbroken["index"], tmp_path / "index")
    words = ["refreshing", model_dir, tmp_path, f"mode={mode}", f"scope={scope}", f"sharded={sharded}"]
    assert run_script(*words, processes=2, failpoint="index.after_current:2").returncode != 0
    assert len(open_index(tmp_path / "index", verify="full")) == 60
    done = run_script(*words, "steps=16", processes=2)
    assert done.returncode == 0, done.stderr
    assert len(list(open_index(tmp_path / "index").folder.glob("vectors-*-of-00002.npy"))) == 2
    assert world.run(model_dir, tmp_path, mode=mode, scope=scope) == wanted
