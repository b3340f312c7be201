"""Learning from answers alone: a short run on a made-up world, its control, its options and its resume."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ragkit.binding import build
from ragkit.config import compose
from ragkit.errors import ConfigError
from ragkit.feedback import attention, likelihood
from ragkit.index import open_index
from ragkit.losses import distillation_kl
from ragkit.training.atlas import AtlasTask
from ragkit.training.loop import Task, train
from ragkit.training.objectives import FeedbackObjective
from ragkit.training.policy import OptimizerPolicy, TrainPolicy
from ragkit.training.task import Paced
from ragkit.training.teaching import TeachingOptions

from .answers_place import Place, command, small_policy


def _gold(task: AtlasTask) -> float:
    return task.evaluate()["gold@1"]


def test_task_is_a_task_that_is_paced(place: Place):
    task = place.task("a task")
    assert isinstance(task, Task)
    assert isinstance(task, Paced)
    task.close()


def test_a_retriever_learns_from_answers_alone_and_not_from_shuffled_ones(place: Place):
    """The short form of scripts/learn_from_answers.py: unseen entities, no gold passage; and its control, as long."""
    start, end = {}, {}
    for name, teaching in (("learns", {}), ("shuffled", {"shuffle_answers": True})):
        task = place.task(name, teaching=teaching, schedule="25")
        start[name] = _gold(task)
        end[name] = train(task, small_policy(150, learning_rate=0.2), place.folder / name).figures["gold@1"]
    assert start["learns"] == start["shuffled"] < 0.1
    assert end["learns"] > 0.4
    assert end["shuffled"] <= start["shuffled"]


@pytest.mark.parametrize(("temperature", "is_flat"), [(1e6, True), (0.1, False)])
def test_a_target_of_equal_shares_is_said_once(
    place: Place, caplog: pytest.LogCaptureFixture, temperature: float, is_flat: bool
):
    """A reader's short values and a temperature of 1: real questions went from 0.095 to 0.034 hit@1 without a word."""
    objective = FeedbackObjective(likelihood, partial(distillation_kl, feedback_temperature=temperature))
    name = f"flat {is_flat}"
    train(place.task(name, objective=objective), small_policy(2, log_every=1), place.folder / name)
    said = [record.getMessage() for record in caplog.records if "hardly tells" in record.getMessage()]
    assert len(said) == is_flat
    lines = [json.loads(line) for line in (place.folder / name / "log.jsonl").read_text().splitlines()]
    shares = [line["likelihood_top_share"] for line in lines if "loss" in line]
    assert len(shares) == 2
    assert all((share < 0.2) == is_flat for share in shares)


def test_index_belongs_to_the_exported_retriever_at_the_end(place: Place):
    """Guards an index that is left at the last refresh: every later answer would be searched with other vectors."""
    task = place.task("export", schedule="4")
    result = train(task, small_policy(6), place.folder / "export")
    lines = [json.loads(line) for line in (place.folder / "export" / "log.jsonl").read_text().splitlines()]
    assert [line["refresh_began"] for line in lines if "refresh" in line] == [4]
    from ragkit.retriever import DualEncoder
    from ragkit.retriever.open import open_retriever

    exported = DualEncoder.from_pretrained(str(place.folder / "export" / "retriever"), device="cpu", dtype="float32")
    again = open_retriever(place.folder / "export" / "index", encoder=exported)
    assert not again.is_stale
    assert result.figures["hit@5"] > 0


def test_a_killed_run_resumes_with_the_losses_of_an_unbroken_one(place: Place, toy):
    """The index goes back to the checkpoint's generation: with the later one, other passages would be found."""
    whole = place.task("whole", schedule="3")
    train(whole, small_policy(8, log_every=1), place.folder / "whole")

    class Killed(Exception):
        pass

    cut = place.task("cut", schedule="3")
    begin = cut.begin

    def dies(update: int) -> Any:
        if update == 7:
            raise Killed
        return begin(update)

    cut.begin = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        train(cut, small_policy(8, log_every=1, save_every=5), place.folder / "cut")
    again = place.task("cut", schedule="3")
    train(again, small_policy(8, log_every=1, save_every=5), place.folder / "cut")
    assert toy.losses(place.folder / "cut") == toy.losses(place.folder / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failpoint", "mode"),
    [
        ("step:3", "sync"),
        ("checkpoint-manifest:2", "sync"),
        ("refresh.encoded:1", "sync"),
        ("index.before_current:2", "sync"),
        ("index.after_current:2", "sync"),
        ("refresh.submitted:2", "async"),
        ("index.before_current:2", "async"),
        ("index.after_current:2", "async"),
    ],
)
def test_a_run_killed_anywhere_ends_as_an_unbroken_one(
    place: Place, toy, run_script, tmp_path: Path, *, failpoint: str, mode: str
):
    """SIGKILL between two updates, in a checkpoint, in a refresh, and on either side of the switch to its index."""
    words = [
        *command(place, tmp_path, "emdr2"),
        f"task.refresh.mode={mode}",
        "task.refresh.background.lag=1",
        "policy.steps=5",
        "policy.save.save_every=2",
        "policy.save.eval_every=9",
    ]
    words = [word for word in words if word != "policy.steps=2"]
    build(compose("train", words)).run()
    cut = [word.replace(f"out={tmp_path}/run", f"out={tmp_path}/cut") for word in words]
    assert run_script("command", "train", *cut, failpoint=failpoint).returncode == -9
    open_index(tmp_path / "cut" / "index", verify="full")
    finished = run_script("command", "train", *cut)
    assert finished.returncode == 0, finished.stderr
    assert toy.losses(tmp_path / "cut") == toy.losses(tmp_path / "run")
    open_index(tmp_path / "cut" / "index", verify="full")


@pytest.mark.slow
def test_a_run_that_two_processes_began_over_parts_of_the_index_is_finished_by_one(
    place: Place, toy, run_script, tmp_path: Path
):
    """Fault 25, and "saved by N, opened by M": the losses are those of one process from the first step to the last."""
    more = ["policy.save.save_every=1", "policy.save.eval_every=9", "task.refresh.schedule=2", "policy.steps=5"]
    words = [
        word for word in command(place, tmp_path, "emdr2") if not word.startswith(("policy.steps", "task.refresh"))
    ]
    words += more
    build(compose("train", words)).run()
    cut = [word.replace(f"out={tmp_path}/run", f"out={tmp_path}/cut") for word in words]
    two = ["task.refresh.sharded=true", "policy.compute.processes=2"]
    assert run_script("command", "train", *cut, *two, failpoint="step:3", processes=2).returncode != 0
    # the generation that the one process goes on with was made by two, each its part
    assert len(list(open_index(tmp_path / "cut" / "index").folder.glob("vectors-*-of-00002.npy"))) == 2
    build(compose("train", cut)).run()
    assert toy.losses(tmp_path / "cut") == pytest.approx(toy.losses(tmp_path / "run"), rel=1e-4)
    assert len(toy.losses(tmp_path / "cut")) == 5


def test_query_side_training_leaves_the_passage_tower_bit_identical(place: Place):
    """Defect 2 of the reference: a tower that was not copied moves with the other, and so do stored vectors."""
    from ragkit.retriever import DualEncoder
    from ragkit.retriever.tower import Tower

    shared = place.models.make_retriever(place.world, dim=32)
    with pytest.raises(ConfigError, match=r"retriever\.shared=false"):
        place.task("query shared", encoder=shared, teaching={"retriever": "query"})
    own: Tower = shared.query_tower.copied()
    encoder = DualEncoder(shared.query_tower, own, shared.options)
    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    task = place.task("query", encoder=encoder, schedule="2", teaching={"retriever": "query"})
    train(task, small_policy(5), place.folder / "query")
    moved = {name for name, weight in encoder.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved
    assert all(name.startswith("towers.query.") for name in moved)


def test_each_loss_reaches_only_its_own_model_and_each_model_has_its_own_optimizer(place: Place):
    """Joint training: two rates in the log, both models move, and the reader moves by its own loss alone."""
    reader = place.models.make_reader(place.world, dim=48)
    start = {name: weight.clone() for name, weight in reader.state_dict().items()}
    policy = small_policy(3, log_every=1)
    policy = TrainPolicy(
        **{
            **{name: getattr(policy, name) for name in ("steps", "batch_size", "compute", "optimizer", "save")},
            "optimizers": {"reader": OptimizerPolicy(learning_rate=1e-3, schedule="constant", warmup=1, clip=0.5)},
        }
    )
    finding = {"k": 6, "reader_k": 2}
    task = place.task("joint", reader=reader, teaching={"reader": "trained"}, finding=finding)
    train(task, policy, place.folder / "joint")
    lines = [json.loads(line) for line in (place.folder / "joint" / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert {(line["learning_rate"], line["learning_rate_reader"]) for line in steps} == {(0.02, 1e-3)}
    assert all(line["loss"] == pytest.approx(line["retriever_loss"] + line["reader_loss"]) for line in steps)
    assert any(not torch.equal(weight, start[name]) for name, weight in reader.state_dict().items())
    assert (place.folder / "joint" / "reader" / "ragkit.json").is_file()
    assert (place.folder / "joint" / "retriever").is_dir()


def test_a_frozen_retriever_is_not_touched_until_its_step(place: Place):
    task = place.task(
        "later",
        teaching={"reader": "trained", "freeze_retriever_steps": 2},
        reader=place.models.make_reader(place.world, dim=48),
    )
    before = {name: weight.clone() for name, weight in task.encoder.state_dict().items()}
    seen = []
    begin = task.begin

    def watched(update: int) -> Any:
        seen.append(all(torch.equal(weight, before[name]) for name, weight in task.encoder.state_dict().items()))
        return begin(update)

    task.begin = watched  # type: ignore[method-assign]
    train(task, small_policy(4), place.folder / "later")
    assert seen == [True, True, True, False]


def test_what_cannot_be_trained_is_said_before_anything_runs(place: Place):
    with pytest.raises(ConfigError, match="both frozen"):
        TeachingOptions(retriever="frozen")
    with pytest.raises(ConfigError, match="has no loss to be trained by"):
        place.task("untrainable", teaching={"reader": "trained"})
    with pytest.raises(ConfigError, match="loss=adist reads cross-attention, and a SimulatedReader has none"):
        place.task("unseeing", objective=FeedbackObjective(attention, distillation_kl))


def test_two_processes_of_the_command_log_the_losses_of_one(place: Place, toy, run_script, tmp_path: Path):
    """torchrun on gloo: one index that both refresh and search, and five questions, which two cannot share evenly."""
    words = command(place, tmp_path, "emdr2")
    build(compose("train", words)).run()
    both = [word.replace(f"out={tmp_path}/run", f"out={tmp_path}/two") for word in words]
    finished = run_script("command", "train", *both, "policy.compute.processes=2", processes=2)
    assert finished.returncode == 0, finished.stderr
    assert "training in 2 processes" in finished.stderr
    assert toy.losses(tmp_path / "two") == pytest.approx(toy.losses(tmp_path / "run"), rel=1e-4)
    assert len(list((tmp_path / "two" / "index").glob("g*"))) >= 2


LOSSES = ["emdr2", "ldist", "lool", "adist"]


@pytest.mark.parametrize("loss", [*LOSSES, *(f"{loss}_atlas" for loss in LOSSES), "adist_fidkd", "ldist_gold"])
def test_command_trains_from_files_with_every_loss(place: Place, tmp_path: Path, loss: str):
    """The configuration from end to end: experiment, loss and refresh groups, two models, an index of the run's own."""
    before = (place.index / "CURRENT").read_text()
    words = command(place, tmp_path, loss)
    build(compose("train", words)).run()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["steps"] == 2
    assert "dev_gold@1" in metrics
    assert (tmp_path / "run" / "retriever").is_dir()
    assert not (tmp_path / "run" / "reader").exists()
    assert (place.index / "CURRENT").read_text() == before
    assert np.load(next((tmp_path / "run" / "index").glob("g*/vectors-*.npy"))).shape == (300, 32)


def test_questions_can_be_made_from_the_passages_of_the_index(place: Place, tmp_path: Path):
    """Joint pre-training without questions: both models, each question's own passage left out, a null passage."""
    words = [word for word in command(place, tmp_path, "emdr2") if not word.startswith("data.train=")]
    more = ["pretext=span", "task.options.teaching.reader=trained", "task.options.finding.null_passage=true"]
    with pytest.raises(ConfigError, match=r"either data\.train=FILE or"):
        build(compose("train", words)).run()
    build(compose("train", [*words, *more])).run()
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["n"] == 300
    assert (tmp_path / "run" / "reader" / "ragkit.json").is_file()
