"""Every configuration that ragkit ships binds to real signatures."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ragkit import binding, cli

CONF = Path(__file__).resolve().parents[2] / "conf"
FILES = sorted(CONF.rglob("*.yaml"))


def _targets(node: object) -> list[dict[str, object]]:
    if isinstance(node, list):
        return [found for item in node for found in _targets(item)]
    if not isinstance(node, dict):
        return []
    below = [found for value in node.values() for found in _targets(value)]
    return [node, *below] if "_target_" in node else below


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(CONF)) for file in FILES])
def test_every_target_binds_to_a_real_signature(file: Path) -> None:
    """A renamed parameter leaves a config that fails only when somebody chooses it."""
    config = OmegaConf.to_container(OmegaConf.create(file.read_text()))
    for node in _targets(config):
        target = binding.locate(str(node["_target_"]))
        keys = {str(key) for key in node if key not in {"_target_", "_partial_", "defaults"}}
        parameters = inspect.signature(target).parameters
        assert keys <= set(parameters), f"{node['_target_']} has no {sorted(keys - set(parameters))}"


def test_every_command_has_a_config() -> None:
    assert {f"{name}.yaml" for name in cli.COMMANDS} <= {file.name for file in FILES if file.parent == CONF}
