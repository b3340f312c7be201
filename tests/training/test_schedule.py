"""Learning-rate schedules, by hand."""

from __future__ import annotations

import pytest

from ragkit.errors import ConfigError
from ragkit.training.schedule import SCHEDULES, multiplier


def _rates(name: str) -> list[float]:
    return [round(multiplier(name, step=step, warmup=2, total=6), 4) for step in range(7)]


def test_schedules_rise_then_fall_as_named():
    """Guards off-by-one: the first update must not have rate 0, the end of a decay must be 0."""
    assert _rates("linear") == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    assert _rates("cosine") == [0.5, 1.0, 1.0, 0.8536, 0.5, 0.1464, 0.0]
    assert _rates("constant") == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_without_warmup_every_schedule_starts_at_one():
    assert all(multiplier(name, step=0, warmup=0, total=5) == 1.0 for name in SCHEDULES)


def test_unknown_schedule_lists_the_known():
    with pytest.raises(ConfigError, match="constant.*cosine.*linear"):
        multiplier("step", step=0, warmup=0, total=5)
