"""Checkpoint files of other projects: opened without running what they hold, checked weight by weight."""

from __future__ import annotations

import argparse
import collections
import logging
import pickle
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ragkit.errors import ConfigError, InputError, ModelNotFound

log = logging.getLogger(__name__)

_NAMES = ("pytorch_model.bin", "model.pth.tar", "checkpoint.pth")  # FiD, Atlas, Contriever
_STATES = ("model_dict", "model")  # DPR; Atlas and Contriever
_SHOWN = 3


def read_state(source: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint file, or in the folder that holds it, by the names they have there.

    The file is opened with ``weights_only``: besides tensors only settings (argparse's, OmegaConf's) are accepted.
    ModelNotFound where there is no file, InputError for one that holds anything else or no weights.
    """
    file = _file(source)
    try:
        with torch.serialization.safe_globals(_settings_types()):
            found = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError) as error:
        reason = str(error).split("Re-running", maxsplit=1)[0].strip().splitlines()
        raise InputError(
            f"{file} is not a file of weights: {reason[0] if reason else type(error).__name__}; ragkit opens tensors "
            "and settings and nothing that runs code; save the model's state_dict alone where it was made"
        ) from error
    except (OSError, RuntimeError) as error:
        raise InputError(f"{file} cannot be read: {error}; copy it again, it may be cut short") from error
    for name in _STATES:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
            break
    if not isinstance(found, Mapping):
        raise InputError(f"{file} holds a {type(found).__name__}, wanted weights by name")
    state = {str(name): tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    if not state:
        raise InputError(f"{file} holds no weights; its keys are {sorted(map(str, found))[:8]}")
    return state


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def load_exactly(
    make: Callable[[], nn.Module], state: Mapping[str, Tensor], *, what: str, may_lack: Iterable[str] = ()
) -> dict[str, Tensor]:
    """The weights as float32, sure to be those of the model that ``make`` makes: as many, of the same shapes.

    ``may_lack`` are names of weights that are copies of others. ConfigError names what is missing, what is left over
    and what has another shape than the model; ``what`` says in it where the weights come from.
    """
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}
    wanted = {name: shape for name, shape in wanted.items() if not name.endswith("position_ids")}
    missing = sorted(wanted.keys() - state.keys() - set(may_lack))
    left_over = sorted(state.keys() - wanted.keys())
    shapes = [
        f"{name} is {list(tensor.shape)}, not {list(wanted[name])}"
        for name, tensor in state.items()
        if name in wanted and tuple(tensor.shape) != wanted[name]
    ]
    faults = [
        f"{len(names)} {kind} ({', '.join(names[:_SHOWN])})"
        for names, kind in ((missing, "missing"), (left_over, "unknown"), (shapes, "of another shape"))
        if names
    ]
    if faults:
        raise ConfigError(f"{what} does not fit its base model: weights {'; '.join(faults)}; give the right base=")
    return {name: tensor.float().clone() for name, tensor in state.items()}


def _file(source: Path) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise ModelNotFound(f"no checkpoint at {source}: the path does not exist")
    there = [source / name for name in _NAMES if (source / name).is_file()]
    if len(there) != 1:
        held = sorted(path.name for path in source.iterdir())[:8]
        raise ModelNotFound(f"{source} must hold one of {list(_NAMES)}; it holds {held}; give the file itself")
    return there[0]


def _settings_types() -> list[Any]:
    """Types without behaviour of their own in which DPR, Contriever and Atlas save the settings of a run."""
    types: list[Any] = [argparse.Namespace, collections.defaultdict, dict, list, int, float, bool, str, typing.Any]
    try:
        import omegaconf
    except ImportError:
        return types
    from omegaconf import base, nodes

    types += [omegaconf.DictConfig, omegaconf.ListConfig, base.ContainerMetadata, base.Metadata]
    types += [nodes.AnyNode, nodes.StringNode, nodes.IntegerNode, nodes.FloatNode, nodes.BooleanNode]
    return types
