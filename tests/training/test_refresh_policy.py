"""What a refresh policy refuses, and what it tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ragkit import binding, config
from ragkit.errors import ConfigError
from ragkit.refresh import Made, Overlaps
from ragkit.training.refresh_policy import BackgroundPolicy, RefreshEvent, RefreshPolicy, StalenessPolicy
from ragkit.training.searched_rows import SearchedRows

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "often"}, "async.*drift.*sync"),
        ({"scope": "some"}, "all.*hot"),
        ({"schedule": "10-5:1"}, "schedule"),
        ({"share": 1.5}, "share=1.5"),
        ({"keep": 0}, "keep=0"),
        ({"mode": "drift", "staleness": StalenessPolicy(queries=0)}, "staleness.queries"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RefreshPolicy(**settings)


@pytest.mark.parametrize("settings", [{"lag": 0}, {"lag": -1}, {"threads": 0}, {"nice": 20}])
def test_background_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="background"):
        BackgroundPolicy(**settings)


@pytest.mark.parametrize("settings", [{"pool": 10}, {"k": 0}, {"queries": -1}, {"threshold": 0}, {"threshold": 1.1}])
def test_a_staleness_that_measures_nothing_is_refused(settings: dict[str, Any]) -> None:
    """Silent failure: with a pool of k hits every overlap is 1, and drift never refreshes."""
    with pytest.raises(ConfigError, match="staleness"):
        StalenessPolicy(**settings)


@pytest.mark.parametrize(
    ("lag", "wanted"), [(0.5, {0: 5, 100: 250}), (0.01, {0: 1, 100: 5}), (7, {0: 7, 100: 7}), (None, {0: None})]
)
def test_the_lag_is_updates_or_a_share_of_the_rate(lag: float | None, wanted: dict[int, int | None]) -> None:
    policy = RefreshPolicy("0-100:10,100-:500", mode="async", background=BackgroundPolicy(lag=lag))
    assert {update: policy.lag(update) for update in wanted} == wanted


def test_identity_holds_what_the_losses_depend_on_and_nothing_else() -> None:
    same = RefreshPolicy("10", keep=5, sharded=True, background=BackgroundPolicy(lag=3, threads=4))
    assert RefreshPolicy("10").identity() == same.identity()
    assert RefreshPolicy("10").identity() != RefreshPolicy("20").identity()
    lags = [RefreshPolicy("10", mode="async", background=BackgroundPolicy(lag=lag)).identity() for lag in (3, 4)]
    assert lags[0] != lags[1]


def test_the_sample_is_drawn_by_the_seed_from_distinct_queries() -> None:
    queries = [f"q{number % 50}" for number in range(100)] + ["", "  "]
    first = StalenessPolicy(queries=8).sample(queries, seed=0)
    assert len(set(first.queries)) == 8
    assert first == StalenessPolicy(queries=8).sample(queries[::-1], seed=0)
    assert first != StalenessPolicy(queries=8).sample(queries, seed=1)
    assert StalenessPolicy(queries=0).sample(queries, seed=0).queries == ()
    assert len(StalenessPolicy(queries=80).sample(queries, seed=0).queries) == 50


def test_an_event_tells_only_what_was_measured() -> None:
    event = RefreshEvent("switched", 9, 5, Made(3, 60, 1.5, Overlaps()), waited=2.0, share=0.25)
    assert not [name for name in event.figures() if "overlap" in name]
    assert event.describe() == (
        "generation 3 switched, 60 passages encoded in 1.5 s, training waited 2.0 s (25% of all time so far)"
    )


def test_searched_rows_survive_a_checkpoint() -> None:
    rows = SearchedRows(1000)
    rows.add(np.array([[3, 999, -1], [3, 0, 512]]), device=torch.device("cpu"))
    again = SearchedRows(1000)
    again.load(rows.state())
    assert again.take().tolist() == rows.take().tolist() == [0, 3, 512, 999]
    assert again.take().tolist() == []


CONFIGS = {"sync": "sync", "async": "async", "drift": "drift", "hot": "sync", "never": "sync"}


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF / "refresh").glob("*.yaml")))
def test_a_refresh_config_goes_to_the_task_whole(name: str) -> None:
    """Silent failure: a file without its package line leaves the setting where nothing reads it."""
    composed = config.compose("train", ["experiment=atlas", f"refresh={name}", "task.refresh.keep=7"])
    assert "refresh" not in composed
    found = binding.build({"policy": composed["task"]["refresh"]})["policy"]
    assert isinstance(found, RefreshPolicy)
    assert (found.mode, found.scope, found.keep) == (CONFIGS[name], "hot" if name == "hot" else "all", 7)
    assert (found.schedule == "never") == (name == "never")
