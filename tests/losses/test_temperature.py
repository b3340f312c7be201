"""Temperatures come from the user's configuration: one that is none must be an error of the configuration."""

from __future__ import annotations

import math

import pytest
import torch

from ragkit.errors import ConfigError
from ragkit.losses import contrastive, distillation_kl, marginal_nll

ONES = torch.ones(2, 2)


@pytest.mark.parametrize("temperature", [0.0, -0.5, math.nan])
@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (lambda **given: contrastive(ONES, ONES, torch.tensor([0, 1]), **given), "temperature"),
        (lambda **given: marginal_nll(ONES, -ONES, **given), "temperature"),
        (lambda **given: distillation_kl(ONES, ONES, **given), "temperature"),
        (lambda **given: distillation_kl(ONES, ONES, **given), "feedback_temperature"),
    ],
    ids=["contrastive", "marginal", "distillation", "feedback"],
)
def test_temperature_must_be_above_zero(loss, name: str, temperature: float):
    """Guards against a traceback for task.loss.temperature=0, and against a loss of the opposite sign."""
    with pytest.raises(ConfigError, match=f"must be above 0, not .*{temperature}"):
        loss(**{name: temperature})
    assert torch.isfinite(loss(**{name: 0.5}))
