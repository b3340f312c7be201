"""One process is the identity; two are one: run under torchrun by this file itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from ragkit import distributed
from ragkit.errors import ConfigError

SCRIPT = """
import json, sys, torch
from torch import nn
from ragkit import distributed as d
d.start_processes(torch.device("cpu"), expected=2)
rank = d.rank()
rows = (torch.arange(2.0 + rank).reshape(-1, 1) + 10 * rank).requires_grad_()   # two rows, then three
whole = d.gather_rows(rows)
weights = torch.arange(1.0, 6.0).reshape(5, 1) * (rank + 1)
(whole * weights).sum().backward()
used, unused, half = (nn.Parameter(torch.zeros(2)) for _ in range(3))
used.grad = torch.full((2,), 1.0 + rank)
half.grad = torch.ones(2) if rank else None
d.sum_gradients([used, unused, half])
module = nn.Linear(2, 2)
d.share_weights(module)
weight = d.sum_floats([float(module.weight.detach().sum()) * (-1) ** rank])
result = {
    "whole": whole.flatten().tolist(), "gradient": rows.grad.flatten().tolist(), "offset": d.row_offset(len(rows)),
    "used": used.grad.tolist(), "unused": unused.grad is None, "half": half.grad.tolist(),
    "sum": d.sum_floats([0.1 + rank, 1.0]), "largest": d.largest(15 * rank), "main": d.from_main([float(rank)]),
    "difference": weight[0],
}
open(f"{sys.argv[1]}/{rank}.json", "w").write(json.dumps(result))
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("two")
    (folder / "script.py").write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*launcher, str(folder / "script.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_gathered_rows_are_in_order_of_rank_with_uneven_shares(two: list[dict]):
    assert [found["whole"] for found in two] == [[0.0, 1.0, 10.0, 11.0, 12.0]] * 2
    assert [found["offset"] for found in two] == [0, 2]


def test_gradient_of_a_row_is_the_sum_over_the_losses_of_all_processes(two: list[dict]):
    """Guards the gather without gradient, and the mean in its place: the weights are 1..5 and their doubles."""
    assert two[0]["gradient"] == [3.0, 6.0]
    assert two[1]["gradient"] == [9.0, 12.0, 15.0]


def test_summed_gradients_leave_alone_what_nobody_used(two: list[dict]):
    """Guards weight decay: a gradient of zero instead of none would shrink an unused weight."""
    for found in two:
        assert found["used"] == [3.0, 3.0]
        assert found["half"] == [1.0, 1.0]
        assert found["unused"] is True


def test_numbers_agree_in_all_processes(two: list[dict]):
    for found in two:
        assert found["sum"] == pytest.approx([1.2, 2.0])
        assert found["largest"] == 15
        assert found["main"] == [0.0]


def test_shared_weights_are_those_of_the_main_process(two: list[dict]):
    """Guards new weights, drawn by each process for itself: left so, the processes train two models."""
    assert two[0]["difference"] == 0.0


def test_a_single_process_is_the_identity():
    rows = torch.ones(2, 3, requires_grad=True)
    assert distributed.gather_rows(rows) is rows
    assert (distributed.world_size(), distributed.rank(), distributed.is_main()) == (1, 0, True)
    assert (distributed.row_offset(7), distributed.largest(3), distributed.sum_floats([0.5])) == (0, 3, [0.5])
    parameter = nn.Parameter(torch.zeros(1))
    distributed.sum_gradients([parameter])
    assert parameter.grad is None


def test_wrong_number_of_processes_is_an_error_that_says_torchrun():
    with pytest.raises(ConfigError, match="torchrun --nproc-per-node 4"):
        distributed.start_processes(torch.device("cpu"), expected=4)


def test_accelerate_launch_with_one_process_is_named(monkeypatch: pytest.MonkeyPatch, caplog):
    """Guards engineering fact E: ``accelerate launch --cpu --num_processes 2`` runs one process in silence."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    distributed.start_processes(torch.device("cpu"))
    assert "as ONE process" in caplog.text
