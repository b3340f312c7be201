"""The policy: what it refuses, what weight decay spares, and what a resumed run may change."""

from __future__ import annotations

import math

import pytest
from torch import nn

from ragkit.errors import ConfigError
from ragkit.training.policy import OptimizerPolicy, SavePolicy, TrainPolicy, build_optimizer, trained_parameters


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


@pytest.mark.parametrize(
    ("policy", "values", "message"),
    [
        (OptimizerPolicy, {"learning_rate": 0.0}, "learning_rate must be above 0, not 0.0"),
        (OptimizerPolicy, {"learning_rate": -1e-5}, "learning_rate must be above 0, not -1e-05"),
        (OptimizerPolicy, {"learning_rate": math.nan}, "learning_rate must be above 0, not nan"),
        (OptimizerPolicy, {"eps": 0.0}, "eps must be above 0"),
        (OptimizerPolicy, {"eps": -1e-8}, "eps must be above 0"),
        (OptimizerPolicy, {"weight_decay": -0.1}, "weight_decay must be 0 or more"),
        (OptimizerPolicy, {"warmup": -1}, "warmup must be 0 or more"),
        (OptimizerPolicy, {"warmup": math.inf}, "warmup must be 0 or more, not inf"),
        (OptimizerPolicy, {"clip": 0.0}, "clip must be above 0, or null"),
        (OptimizerPolicy, {"clip": math.nan}, "clip must be above 0, or null"),
        (OptimizerPolicy, {"betas": [0.9]}, r"betas must be two numbers .*, not \[0.9\]"),
        (OptimizerPolicy, {"betas": [0.9, 0.99, 0.999]}, "betas must be two numbers"),
        (OptimizerPolicy, {"betas": [0.9, 1.0]}, "at least 0 and below 1"),
        (OptimizerPolicy, {"betas": [-0.1, 0.999]}, "at least 0 and below 1"),
        (OptimizerPolicy, {"schedule": "step"}, "choose from"),
        (SavePolicy, {"keep": 0}, "save.keep"),
        (SavePolicy, {"export": "first"}, "best or last"),
        (TrainPolicy, {"steps": 0}, "steps must be 1 or more"),
        (TrainPolicy, {"epochs": math.nan}, "epochs above 0"),
        (TrainPolicy, {"steps": 1, "batch_size": 2, "accumulate": 3}, "accumulate=3"),
    ],
)
def test_values_that_make_no_sense_are_named(policy, values: dict[str, object], message: str):
    """Guards against a traceback from torch, or a run of NaN, in place of the name of the option."""
    with pytest.raises(ConfigError, match=message):
        policy(**values)


def test_the_bounds_themselves_are_allowed():
    """The control of the refusals: 0 where 0 means none, and infinity for a clip that never clips."""
    policy = OptimizerPolicy(weight_decay=0, warmup=0, betas=[0.0, 0.0], clip=math.inf)
    assert len(policy.build({"model": nn.Linear(2, 2)}).param_groups) == 2


def test_identity_holds_what_losses_depend_on_and_nothing_else():
    first = TrainPolicy(steps=5, save=SavePolicy(keep=1)).identity()
    assert first == TrainPolicy(steps=5, save=SavePolicy(keep=3)).identity()
    assert first != TrainPolicy(steps=5, seed=1).identity()


def _two_models() -> dict[str, nn.Module]:
    return {"retriever": nn.Linear(3, 2), "reader": nn.Linear(3, 2)}


def test_a_module_can_have_an_optimizer_of_its_own():
    """Guards one rate, decay or clipping for both models of a joint run, where each is wanted by itself."""
    modules = _two_models()
    own = OptimizerPolicy(learning_rate=0.5, weight_decay=0.1, betas=(0.5, 0.9), clip=0.25)
    policy = TrainPolicy(steps=1, optimizer=OptimizerPolicy(learning_rate=0.1), optimizers={"reader": own})
    shares = policy.shares(modules)
    assert [(share.name, share.policy.learning_rate) for share in shares] == [("", 0.1), ("reader", 0.5)]
    assert [id(p) for p in shares[1].parameters] == [id(p) for p in modules["reader"].parameters()]
    groups = build_optimizer(shares).param_groups
    assert [(group["lr"], group["weight_decay"], group["betas"]) for group in groups] == [
        (0.1, 0.0, (0.9, 0.999)),
        (0.1, 0.0, (0.9, 0.999)),
        (0.5, 0.1, (0.5, 0.9)),
        (0.5, 0.0, (0.5, 0.9)),
    ]
    assert policy.identity()["optimizers"]["reader"]["learning_rate"] == 0.5
    assert "optimizers" not in TrainPolicy(steps=1).identity()  # checkpoints of single models stay as they are


def test_an_optimizer_for_a_module_that_is_not_trained_is_refused():
    policy = TrainPolicy(steps=1, optimizers={"raeder": OptimizerPolicy()})
    with pytest.raises(ConfigError, match=r"names \['raeder'\], and this task trains \['reader', 'retriever'\]"):
        policy.shares(_two_models())
