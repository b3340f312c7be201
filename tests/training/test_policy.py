"""The policy: what it refuses, what weight decay spares, and what a resumed run may change."""

from __future__ import annotations

import pytest
from torch import nn

from ragkit.errors import ConfigError
from ragkit.training.policy import OptimizerPolicy, SavePolicy, TrainPolicy, trained_parameters


def test_weight_decay_spares_biases_and_norms():
    """Guards against decay of LayerNorm weights, which belong near 1."""
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    optimizer = OptimizerPolicy(weight_decay=0.1).build({"model": model})
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert [p.ndim for p in decayed["params"]] == [2, 2]
    assert [p.ndim for p in spared["params"]] == [1, 1, 1]


def test_shared_parameters_are_trained_once_and_frozen_ones_never():
    layer, frozen = nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)
    assert len(trained_parameters({"a": layer, "b": nn.Sequential(layer, frozen)})) == 2


def test_steps_win_over_epochs_and_one_of_them_is_needed():
    assert TrainPolicy(steps=7, epochs=2).total_steps(10) == 7
    assert TrainPolicy(epochs=1.25).total_steps(10) == 13
    with pytest.raises(ConfigError, match=r"policy.steps or policy.epochs"):
        TrainPolicy()


def test_warmup_is_a_number_of_updates_or_a_share():
    assert OptimizerPolicy(warmup=0.1).warmup_steps(200) == 20
    assert OptimizerPolicy(warmup=30).warmup_steps(200) == 30


def test_values_that_make_no_sense_are_named():
    for fault, message in (
        (lambda: OptimizerPolicy(learning_rate=0.0), "learning_rate must be above 0"),
        (lambda: OptimizerPolicy(schedule="step"), "choose from"),
        (lambda: OptimizerPolicy(clip=0.0), "clip"),
        (lambda: SavePolicy(keep=0), "save.keep"),
        (lambda: SavePolicy(export="first"), "best or last"),
        (lambda: TrainPolicy(steps=1, batch_size=2, accumulate=3), "accumulate=3"),
    ):
        with pytest.raises(ConfigError, match=message):
            fault()


def test_identity_holds_what_losses_depend_on_and_nothing_else():
    first = TrainPolicy(steps=5, save=SavePolicy(keep=1)).identity()
    assert first == TrainPolicy(steps=5, save=SavePolicy(keep=3)).identity()
    assert first != TrainPolicy(steps=5, seed=1).identity()
