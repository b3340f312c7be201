"""A configuration binds to its constructors, and every fault is told at once."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from ragkit import binding
from ragkit.errors import ConfigError
from ragkit.types import Passage


def test_nested_targets_are_built_from_the_inside() -> None:
    config = {
        "_target_": "ragkit.types.Evidence",
        "passage": {"_target_": "ragkit.types.Passage", "id": "7", "text": "x"},
        "retriever_score": 1,
        "contribution": 0.5,
    }
    evidence = binding.build(config)
    assert evidence.passage == Passage("7", "x")


def test_all_faults_are_in_one_message() -> None:
    """One fault at a time makes a user run the same command five times."""
    config = {
        "_target_": "ragkit.types.Evidence",
        "passage": {"_target_": "os.system", "command": "true"},
        "retriever_score": "high",
        "contribution": "???",
        "rank": 3,
    }
    with pytest.raises(ConfigError) as caught:
        binding.build(config)
    message = str(caught.value)
    assert "os.system is outside" in message
    assert "retriever_score: wanted float, got 'high'" in message
    assert "contribution: no value given; add contribution=VALUE" in message
    assert "has no parameter 'rank'" in message


def test_nothing_is_built_when_there_is_a_fault(tmp_path: Path) -> None:
    config = [
        {"_target_": "ragkit.corpus.PassageStore.open", "folder": str(tmp_path / "absent")},
        {"_target_": "ragkit.types.Passage"},
    ]
    with pytest.raises(ConfigError, match="missing a required argument: 'id'"):
        binding.build({"parts": config})


def test_a_partial_waits_for_the_rest_of_its_arguments() -> None:
    made = binding.build({"_target_": "ragkit.types.Passage", "_partial_": True, "title": "T"})
    assert isinstance(made, functools.partial)
    assert made(id="1", text="x") == Passage("1", "x", "T")


def test_text_that_looks_like_an_interpolation_is_left_alone() -> None:
    """Hydra's own instantiate would look for a key called `x`."""
    made = binding.build({"_target_": "ragkit.types.Passage", "id": "1", "text": "what is ${x}?"})
    assert made.text == "what is ${x}?"


@pytest.mark.parametrize("target", ["ragkit.types.Pasage", "ragkit.nowhere.Thing", "ragkit.types.Passage.no.such"])
def test_a_target_that_is_not_there_is_named(target: str) -> None:
    with pytest.raises(ConfigError, match=target.split(".")[1]):
        binding.build({"_target_": target})


def test_true_is_not_a_number() -> None:
    with pytest.raises(ConfigError, match=r"contribution: wanted float, got True"):
        binding.build(
            {"_target_": "ragkit.types.Evidence", "passage": {}, "retriever_score": 0.0, "contribution": True}
        )
