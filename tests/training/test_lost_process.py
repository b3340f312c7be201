"""Fault 25: a process that dies or hangs in the middle of a step, and going on with another number of processes."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ragkit.errors import ConfigError
from ragkit.training.policy import ComputePolicy


def test_killed_in_the_middle_of_a_step_and_resumed_has_the_losses_of_a_run_never_stopped(
    toy: ModuleType, run_script: Any, tmp_path: Path
):
    """SIGKILL after the backward pass: gradients that were never applied must not be applied twice either."""
    toy.main([str(tmp_path / "whole")])
    assert run_script("toy", tmp_path / "cut", "lost=kill:0:5").returncode == -signal.SIGKILL
    toy.main([str(tmp_path / "cut")])
    assert toy.losses(tmp_path / "cut") == toy.losses(tmp_path / "whole")
    assert (tmp_path / "cut" / "model.json").read_text() == (tmp_path / "whole" / "model.json").read_text()


@pytest.mark.parametrize(("how", "lost"), [("kill", 1), ("hang", 1), ("hang", 0)])
def test_a_process_that_is_lost_is_named_and_the_run_goes_on_with_another_number(
    toy: ModuleType, run_script: Any, tmp_path: Path, how: str, lost: int
):
    """Silent failure: the others wait for ever, or end with the address of a socket.

    The losses of what two processes began and one finished are those of one: same batches, same order.
    """
    started = time.monotonic()
    words = [tmp_path / "two", "dropout=0.0", "processes=2", "timeout=5"]
    ended = run_script("toy", *words, f"lost={how}:{lost}:5", processes=2)
    assert ended.returncode != 0
    assert f"rank {1 - lost} of 2 waited in vain for rank {lost}: it died or hangs" in ended.stderr
    assert time.monotonic() - started < 120
    toy.main([str(tmp_path / "one"), "dropout=0.0"])
    toy.main([str(tmp_path / "two"), "dropout=0.0"])
    assert toy.losses(tmp_path / "two") == pytest.approx(toy.losses(tmp_path / "one"), abs=1e-5)
    assert json.loads((tmp_path / "two" / "metrics.json").read_text())["processes"] == 1


def test_a_run_that_one_process_began_goes_on_with_two(toy: ModuleType, run_script: Any, tmp_path: Path):
    """The other direction; its control is that the checkpoint of step 3 was there to go on from."""
    assert run_script("toy", tmp_path / "parts", "dropout=0.0", "lost=kill:0:5").returncode == -signal.SIGKILL
    resumed = run_script("toy", tmp_path / "parts", "dropout=0.0", "processes=2", processes=2)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after step 4" in resumed.stderr
    toy.main([str(tmp_path / "one"), "dropout=0.0"])
    assert toy.losses(tmp_path / "parts") == pytest.approx(toy.losses(tmp_path / "one"), abs=1e-5)


def test_a_time_to_wait_must_be_above_zero():
    with pytest.raises(ConfigError, match=r"compute\.timeout must be above 0"):
        ComputePolicy(timeout=0)
