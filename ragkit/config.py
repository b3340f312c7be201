"""From the words of a command line to a plain configuration, by Hydra's ``compose`` (docs/adr/0002).

Hydra is used here only: the rest of ragkit sees plain dicts, which :mod:`ragkit.binding` checks and builds.
"""

from __future__ import annotations

import importlib.resources
import itertools
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ragkit.errors import ConfigError

# group -> the field of its `path.yaml` that a path or a model reference given in a config's place goes to
PATH_FIELDS = {"corpus": "path", "retriever": "model", "reader": "model"}


def group_choices(group: str) -> list[str]:
    """The names of a group's configs: the YAML files of its folder in ``conf/``, without ``path``."""
    folder = importlib.resources.files("ragkit.conf") / group.partition("@")[0]
    if not folder.is_dir():
        return []
    names = [entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    return sorted(name for name in names if name != "path")


def groups(command: str) -> dict[str, str | None]:
    """The groups that a command's defaults list chooses from, as the command line writes them, with the default."""
    from omegaconf import OmegaConf

    config = OmegaConf.to_container(OmegaConf.create(raw(command)))
    entries = config.get("defaults", []) if isinstance(config, dict) else []
    chosen = [next(iter(entry.items())) for entry in entries if isinstance(entry, dict)]
    return {str(group).removeprefix("optional "): choice for group, choice in chosen}


def raw(command: str) -> str:
    """The text of ``conf/COMMAND.yaml``."""
    return (importlib.resources.files("ragkit.conf") / f"{command}.yaml").read_text(encoding="utf-8")


def compose(command: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration of one command as plain dicts and lists, with the overrides applied.

    A path given where a group wants a name (``corpus=FILE``, ``retriever=DIR``, ``reader=RUN``) selects the group's
    ``path`` config and goes, as it is, to its field. Missing values stay ``"???"``: :func:`build` names them.

    Raises:
        ConfigError: an override is malformed, or names something that is not there.
    """
    from hydra import compose as hydra_compose  # 150 ms that `ragkit --help` need not pay
    from hydra import initialize_config_module
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    names, paths = _split_paths(command, overrides)
    try:
        with initialize_config_module("ragkit.conf", version_base="1.3", job_name=command):
            composed = hydra_compose(config_name=command, overrides=names)
        config = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, command)) from error
    if not isinstance(config, dict):
        raise ConfigError(f"conf/{command}.yaml must hold a mapping, not {type(config).__name__}")
    for group, path in paths.items():
        config[group][PATH_FIELDS[group]] = path
    return typing.cast("dict[str, Any]", config)


def sweep(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of overrides with several values: ``["k=1,2", "a=3"]`` gives two lists.

    Raises:
        ConfigError: an override is malformed.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser  # as in compose
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        values = [
            [f"{item.get_key_element()}={value}" for value in item.sweep_string_iterator()]
            if item.is_sweep_override()
            else [str(item.input_line)]
            for item in parsed
        ]
    except HydraException as error:
        raise ConfigError(str(error)) from error
    return [list(combination) for combination in itertools.product(*values)]


def complete(command: str, line: str) -> list[str]:
    """Hydra's completions of the last word of ``line``, the overrides typed so far."""
    from hydra import initialize_config_module  # as in compose
    from hydra._internal.core_plugins.bash_completion import BashCompletion
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_module("ragkit.conf", version_base="1.3", job_name=command):
        found = BashCompletion(GlobalHydra.instance().config_loader())._query(config_name=command, line=line)
    return [word for word in found if not word.startswith("hydra")]


def to_yaml(config: Mapping[str, Any]) -> str:
    """The configuration as YAML, as a run keeps it in ``config.yaml``."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(dict(config)))


def keep(config: Mapping[str, Any], folder: Path, *, replace: bool) -> None:
    """Write ``folder/config.yaml``, whole or not at all; without ``replace`` not over that of a run that got on."""
    target = folder / "config.yaml"
    if replace or not any((folder / sign).exists() for sign in ("checkpoints", "metrics.json")):
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / ".config.yaml.part"
        part.write_text(to_yaml(config), encoding="utf-8")
        part.replace(target)


def _split_paths(command: str, overrides: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    names: list[str] = []
    paths: dict[str, str] = {}
    defaults = groups(command)
    for override in overrides:
        group, is_assignment, value = override.partition("=")
        if not is_assignment:
            raise ConfigError(f"cannot read {override!r}: every word after the command is KEY=VALUE")
        if group in defaults and value in {"null", ""}:  # Hydra has no word for "no choice"
            if defaults[group] is not None:
                raise ConfigError(f"{override}: ragkit {command} needs one of {', '.join(group_choices(group))}")
            continue
        choices = group_choices(group) if group in PATH_FIELDS else []
        if group not in PATH_FIELDS or value in {*choices, "path"}:
            names.append(override)
        elif Path(value).expanduser().exists() or any(sign in value for sign in "/:"):
            names.append(f"{group}=path")
            paths[group] = value
        else:
            known = ", ".join(choices) or "no configs"
            raise ConfigError(f"{override}: {value!r} is neither a file or folder here nor one of {known}")
    return names, paths


def _explain(error: Exception, command: str) -> str:
    message = str(error).split("\nTo append to your config")[0].strip()
    return f"{message}\nsee: ragkit {command} --help"
