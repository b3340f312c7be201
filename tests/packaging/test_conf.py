"""Every configuration that ragkit ships binds to real signatures."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ragkit import binding, cli, config
from ragkit.errors import ConfigError
from ragkit.retriever.options import EncoderOptions

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
    content = OmegaConf.to_container(OmegaConf.create(file.read_text()))
    for node in _targets(content):
        target = binding.locate(str(node["_target_"]))
        keys = {str(key) for key in node if key not in {"_target_", "_partial_", "defaults"}}
        parameters = inspect.signature(target).parameters
        assert keys <= set(parameters), f"{node['_target_']} has no {sorted(keys - set(parameters))}"


def test_every_command_has_a_config() -> None:
    assert {f"{name}.yaml" for name in cli.COMMANDS} <= {file.name for file in FILES if file.parent == CONF}


PRESETS = ("minilm", "contriever", "dpr", "e5", "bge")


def _published(root: Path) -> dict[str, dict[str, object]]:
    """The table of presets in docs/encoders.md, as encoder options."""
    rows = [line.split("|")[1:-1] for line in (root / "docs" / "encoders.md").read_text().splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows if len(row) == 6 and row[0].strip(" `") in PRESETS]
    return {
        name.strip("`"): {
            "pooling": pooling,
            "normalize": normalised == "yes",
            "query_template": query.strip("`"),
            "passage_template": passage.strip("`"),
        }
        for name, _, pooling, normalised, query, passage in cells
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_a_presets_options_are_known_and_are_those_the_documentation_gives(root: Path, preset: str) -> None:
    """`options` has no _target_ to bind: a misspelt key, or another template than the model's own, costs accuracy."""
    given = config.compose("index", [f"retriever={preset}"])["retriever"]["options"]
    options = EncoderOptions().changed(given).to_dict()
    published = _published(root)[preset]
    assert {name: options[name] for name in published} == published
    assert {name: options[name] for name in given} == given
    with pytest.raises(ConfigError, match="poolin"):
        EncoderOptions().changed({**given, "poolin": "mean"})


@pytest.mark.parametrize("experiment", sorted(file.stem for file in (CONF / "experiment").glob("*.yaml")))
def test_an_experiment_lacks_only_what_the_user_must_give(experiment: str) -> None:
    """Keys that an experiment merges into another config are seen by no other test: the user would find them first."""
    composed = config.compose("train", [f"experiment={experiment}"])
    faults = list(binding._faults(composed, "config"))
    assert faults
    assert [fault for fault in faults if "no value given" not in fault] == []
    composed["policy"]["epoch"] = 1  # the control
    assert any("no parameter 'epoch'" in fault for fault in binding._faults(composed, "config"))
