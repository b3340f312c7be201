"""The loop: what it trains, when it saves, and that stopping and resuming change nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ragkit.errors import CheckpointError, ConfigError, TrainingDiverged
from ragkit.training.loop import train
from ragkit.training.policy import OptimizerPolicy, SavePolicy, TrainPolicy


def test_loss_falls_and_the_best_weights_are_exported(toy, tmp_path: Path):
    """Guards against a loop that logs but does not update, and against exporting the last weights instead."""
    task = toy.ToyTask(dropout=0.0)
    result = train(task, toy.policy(steps=60, learning_rate=0.05), tmp_path)
    losses = toy.losses(tmp_path)
    assert list(losses) == list(range(1, 61))
    assert losses[60] < 0.4 * losses[1]
    dev = [line for line in map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines()) if "dev_fit" in line]
    assert [line["step"] for line in dev] == list(range(0, 61, 4))
    best = max(dev, key=lambda line: line["dev_fit"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["exported_step"] == best["step"]
    assert (metrics["processes"], metrics["computed_in"]) == (1, "float32")
    assert result.figures["fit"] == pytest.approx(best["dev_fit"])
    assert (tmp_path / "checkpoints" / "best").resolve().name == f"step-{best['step']:08d}"


def test_a_run_that_only_gets_worse_exports_the_weights_it_began_with(toy, tmp_path: Path):
    """Guards against a "best" that cannot be the start."""
    before = {name: value.clone() for name, value in toy.ToyTask().model.state_dict().items()}
    task = toy.ToyTask()
    train(task, toy.policy(steps=4, learning_rate=30.0), tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["exported_step"] == 0
    assert all(torch.equal(task.exported[name], value) for name, value in before.items())


def test_progress_counts_the_steps_and_a_resumed_run_goes_on_where_it_was(toy, tmp_path: Path, monkeypatch, capsys):
    """Guards against hours of silence, and against a bar that begins at 0 again after a resumption."""
    monkeypatch.setattr("ragkit.progress._LOG_EVERY", -1.0)  # a line for every step
    for steps in (5, 9):
        optimizer = OptimizerPolicy(learning_rate=0.01, schedule="constant", warmup=2)
        task = toy.ToyTask()
        shown: list[int] = []

        def backward(batch, *, backward, _backward=task.backward, _shown=shown):
            _shown.append(capsys.readouterr().err.count("training: "))
            return _backward(batch, backward=backward)

        task.backward = backward
        train(task, TrainPolicy(steps=steps, batch_size=6, optimizer=optimizer), tmp_path)
        assert f"training: {steps} of {steps}, 0 s" in capsys.readouterr().err
        assert shown == ([0, 1, 1, 1, 1] if steps == 5 else [5, 1, 1, 1])


@pytest.mark.parametrize("step", [1, 5, 11])
def test_killed_at_any_step_and_resumed_has_the_losses_of_a_run_never_stopped(toy, run_script, tmp_path, step: int):
    """SIGKILL; guards optimizer, schedule, dropout and position: the losses and weights must agree in every bit."""
    if not (tmp_path.parent / "whole").is_dir():
        toy.main([str(tmp_path.parent / "whole")])
    killed = run_script("toy", tmp_path, failpoint=f"step:{step}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "metrics.json").exists()
    resumed = run_script("toy", tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after step" in resumed.stderr
    assert toy.losses(tmp_path) == toy.losses(tmp_path.parent / "whole")
    assert (tmp_path / "model.json").read_text() == (tmp_path.parent / "whole" / "model.json").read_text()


@pytest.mark.parametrize("place", ["tensors", "manifest", "rename", "latest"])
def test_killed_while_a_checkpoint_is_written_resumes_from_a_whole_one(toy, run_script, tmp_path, place: str):
    """Guards against a half-written checkpoint that is taken for a whole one. The third is that of step 6."""
    if not (tmp_path.parent / "whole").is_dir():
        toy.main([str(tmp_path.parent / "whole")])
    assert run_script("toy", tmp_path, failpoint=f"checkpoint-{place}:3").returncode == -signal.SIGKILL
    toy.main([str(tmp_path)])
    assert toy.losses(tmp_path) == toy.losses(tmp_path.parent / "whole")


def test_dropout_would_differ_if_the_random_numbers_were_not_restored(toy, tmp_path: Path):
    """The control of the two tests above: another seed of dropout moves the losses."""
    with_dropout, without = tmp_path / "a", tmp_path / "b"
    toy.main([str(with_dropout)])
    toy.main([str(without), "dropout=0.0"])
    first, second = toy.losses(with_dropout), toy.losses(without)
    assert all(abs(first[step] - second[step]) > 1e-4 for step in first)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_finishes_the_step_saves_and_the_same_command_goes_on(toy, tmp_path: Path, number: int, code: int):
    script = Path(toy.__file__)
    command = [sys.executable, str(script), str(tmp_path), "steps=20000", "save_every=100000", "eval_every=100000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        log = tmp_path / "log.jsonl"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (log.is_file() and len(log.read_text().splitlines()) > 5):
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    latest = (tmp_path / "checkpoints" / "latest").resolve().name
    assert latest == f"step-{max(toy.losses(tmp_path)):08d}"
    assert not (tmp_path / "metrics.json").exists()


def test_resuming_with_other_settings_is_refused_with_every_difference(toy, tmp_path: Path):
    train(toy.ToyTask(), toy.policy(), tmp_path)
    with pytest.raises(CheckpointError, match=r"learning_rate: the checkpoint has 0.01, this run 0.02") as caught:
        train(toy.ToyTask(dropout=0.1), toy.policy(learning_rate=0.02, steps=20), tmp_path)
    assert "task.dropout: the checkpoint has 0.3, this run 0.1" in str(caught.value)
    assert "policy.steps: the checkpoint has 12, this run 20" in str(caught.value)


def test_how_often_to_save_may_change_on_resuming(toy, tmp_path: Path):
    """The control of the refusal: what the losses do not depend on is free."""
    train(toy.ToyTask(), toy.policy(), tmp_path)
    result = train(toy.ToyTask(), toy.policy(save_every=5, eval_every=6), tmp_path)
    assert result.steps == 12


def test_run_with_a_constant_rate_may_be_prolonged(toy, tmp_path: Path):
    """Guards the exception to the refusal: without a decay, 5 steps and then 4 are 9 steps, bit for bit."""
    for out, steps in (("parts", 5), ("parts", 9), ("whole", 9)):
        optimizer = OptimizerPolicy(learning_rate=0.01, schedule="constant", warmup=2)
        policy = TrainPolicy(steps=steps, batch_size=6, optimizer=optimizer, save=SavePolicy(save_every=2))
        train(toy.ToyTask(), policy, tmp_path / out)
    assert toy.losses(tmp_path / "parts") == toy.losses(tmp_path / "whole")
    assert len(toy.losses(tmp_path / "whole")) == 9


def test_damaged_newest_checkpoint_is_passed_over_aloud(toy, tmp_path: Path, caplog):
    """Guards fault 3: one flipped byte of weights must neither be loaded nor end the run."""
    train(toy.ToyTask(), toy.policy(), tmp_path)
    whole = toy.losses(tmp_path)
    path = tmp_path / "checkpoints" / "step-00000012" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    train(toy.ToyTask(), toy.policy(), tmp_path)
    assert "model.safetensors has" in caplog.text
    assert "falling back" in caplog.text
    assert toy.losses(tmp_path) == whole


def test_loss_that_is_not_finite_skips_the_update_and_is_counted(toy, tmp_path: Path):
    """Guards against NaN weights: one bad batch must leave the weights as they were."""
    task = toy.ToyTask(nan_at=[3])
    result = train(task, toy.policy(steps=6), tmp_path)
    assert result.skipped == 1
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    skipped = [line for line in lines if "skipped" in line]
    assert [line["step"] for line in skipped] == [3]
    assert skipped[0]["loss"] is None
    assert all(torch.isfinite(value).all() for value in task.model.state_dict().values())


def test_loss_that_is_not_finite_in_one_process_skips_the_update_in_all(toy, run_script, tmp_path: Path):
    """Silent failure: one process makes the update and the other does not, and their weights part for good."""
    done = run_script("toy", tmp_path / "two", "dropout=0.0", "nan=1:3", processes=2)
    assert done.returncode == 0, done.stderr
    one = toy.ToyTask(dropout=0.0, nan_at=[3])
    assert train(one, toy.policy(), tmp_path / "one").skipped == 1
    lines = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "skipped" in line] == [3]
    weights = json.loads((tmp_path / "two" / "model.json").read_text())
    for name, value in one.exported.items():
        torch.testing.assert_close(torch.tensor(weights[name]), value, atol=1e-5, rtol=1e-5)


def test_too_many_skipped_updates_end_the_run_with_a_remedy(toy, tmp_path: Path):
    task = toy.ToyTask(nan_at=range(100))
    with pytest.raises(TrainingDiverged, match=r"11 updates up to step 11 .*learning_rate"):
        train(task, toy.policy(steps=30), tmp_path)


def test_accumulated_parts_give_the_gradient_of_the_whole_batch(toy, tmp_path: Path):
    """Guards against parts that are added without their weights (a batch of 5 or 6 in 4 uneven parts)."""
    one, parts = (toy.ToyTask(dropout=0.0) for _ in range(2))
    train(one, toy.policy(steps=8), tmp_path / "one")
    train(parts, toy.policy(steps=8, accumulate=4), tmp_path / "parts")
    for name, value in one.exported.items():
        torch.testing.assert_close(parts.exported[name], value, atol=1e-5, rtol=1e-5)
    assert len(parts.batches) == 32


def test_two_processes_train_as_one_and_the_number_is_checked(toy, run_script, tmp_path: Path):
    """Uneven batches of 5 and 6 items over two processes: losses and weights of one process to 1e-5."""
    two = run_script("toy", tmp_path / "two", "dropout=0.0", "processes=2", processes=2)
    assert two.returncode == 0, two.stderr
    assert "training in 2 processes" in two.stderr
    toy.main([str(tmp_path / "one"), "dropout=0.0"])
    assert toy.losses(tmp_path / "two") == pytest.approx(toy.losses(tmp_path / "one"), abs=1e-5)
    one_model, two_model = (json.loads((tmp_path / name / "model.json").read_text()) for name in ("one", "two"))
    for name, value in one_model.items():
        torch.testing.assert_close(torch.tensor(two_model[name]), torch.tensor(value), atol=1e-5, rtol=1e-5)


def test_one_process_where_two_were_asked_for_is_an_error_that_says_torchrun(toy, tmp_path: Path):
    """Guards against ``accelerate launch --cpu``, which silently starts one process."""
    with pytest.raises(ConfigError, match="has 1 process, processes=2 .* torchrun --nproc-per-node 2"):
        train(toy.ToyTask(), toy.policy(processes=2), tmp_path)


def test_only_the_newest_checkpoints_and_the_best_are_kept(toy, tmp_path: Path):
    policy = TrainPolicy(steps=10, batch_size=6, save=SavePolicy(save_every=1, keep=2))
    train(toy.ToyTask(), policy, tmp_path)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["latest", "step-00000009", "step-00000010"]


def test_unknown_metric_is_an_error_that_lists_the_figures(toy, tmp_path: Path):
    policy = TrainPolicy(steps=10, batch_size=6, save=SavePolicy(metric="mrr"))
    with pytest.raises(ConfigError, match=r"metric=mrr is not among the dev figures \['fit'\]"):
        train(toy.ToyTask(), policy, tmp_path)


def test_a_metric_with_a_minus_is_better_when_smaller(toy, tmp_path: Path):
    """Guards against the worst checkpoint exported where the dev figure is a loss."""
    save = SavePolicy(metric="-fit", eval_every=2)
    train(toy.ToyTask(), TrainPolicy(steps=8, batch_size=6, save=save), tmp_path)
    dev = [line for line in map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines()) if "dev_fit" in line]
    worst = min(dev, key=lambda line: line["dev_fit"])
    assert max(dev, key=lambda line: line["dev_fit"])["step"] != worst["step"]
    assert json.loads((tmp_path / "metrics.json").read_text())["exported_step"] == worst["step"]
