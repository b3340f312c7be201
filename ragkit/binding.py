"""Objects from configurations: a node with ``_target_`` binds to the signature of what it names.

Every fault of a configuration is reported in one message, before anything is built. (Hydra's own ``instantiate``
reports the first, wraps the errors of constructors and reads ``${`` in a user's text as an interpolation.)
"""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ragkit.errors import ConfigError

ALLOWED = ("ragkit.", "torch.optim.")

# what a YAML value must be for a parameter of each scalar type
_YAML_TYPES: dict[Any, tuple[type, ...]] = {
    float: (float, int),
    int: (int,),
    str: (str,),
    bool: (bool,),
    Path: (str, Path),
    type(None): (type(None),),
}


def build(config: Mapping[str, Any]) -> Any:
    """What the configuration describes, its nested nodes built first.

    Raises:
        ConfigError: one message with every fault: a missing value, a target that is not allowed or not there, a key
            that its constructor does not have, a value of another type.
    """
    faults = list(_faults(config, "config"))
    if faults:
        raise ConfigError("cannot build this config:\n  " + "\n  ".join(faults))
    return _built(config)


def locate(name: str) -> Any:
    """The class, function or classmethod of a dotted name.

    Raises:
        ConfigError: the name is outside :data:`ALLOWED`, or there is nothing of that name.
    """
    if not name.startswith(ALLOWED):
        raise ConfigError(f"{name} is outside {ALLOWED}")
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and module_name.startswith(error.name):
                continue  # the name was of a class: try one part less
            raise
        for part in parts[cut:]:
            found = getattr(found, part, None)
            if found is None:
                raise ConfigError(f"{name}: {module_name} has no {'.'.join(parts[cut:])}")
        return found
    raise ConfigError(f"{name}: no such module")


def _faults(node: Any, where: str) -> Iterator[str]:
    if isinstance(node, list):
        for position, item in enumerate(node):
            yield from _faults(item, f"{where}[{position}]")
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _faults(value, f"{where}.{key}" if where != "config" else str(key))
        if "_target_" in node:
            yield from _target_faults(node, where)
    elif node == "???":
        yield f"{where}: no value given; add {where}=VALUE"


def _target_faults(node: Mapping[str, Any], where: str) -> Iterator[str]:
    try:
        target = locate(node["_target_"])
    except ConfigError as error:
        yield f"{where}: {error}"
        return
    arguments = _arguments(node)
    signature = inspect.signature(target)
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())
    unknown = [] if takes_any else [key for key in arguments if key not in signature.parameters]
    for key in unknown:
        known = ", ".join(signature.parameters)
        yield f"{where}: {node['_target_']} has no parameter {key!r}; it has {known}"
    if not unknown:
        try:
            (signature.bind_partial if node.get("_partial_") else signature.bind)(**arguments)
        except TypeError as error:
            yield f"{where}: {node['_target_']}: {error}"
    hints = _hints(target)
    for key, value in arguments.items():
        if key in hints and value != "???" and not _fits(value, hints[key]):
            wanted = getattr(hints[key], "__name__", None) or str(hints[key]).replace("typing.", "")
            yield f"{where}.{key}: wanted {wanted}, got {value!r}"


def _arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in node.items() if key not in {"_target_", "_partial_"}}


def _hints(target: Any) -> dict[str, Any]:
    of = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(of)
    except NameError:  # a name that exists for type checkers only
        return {}


def _alternatives(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in {typing.Union, types.UnionType}
    return typing.get_args(hint) if is_union else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value can be an argument of this type; only scalars are judged, the rest is the constructor's."""
    return isinstance(value, Mapping) or any(_fits_one(value, kind) for kind in _alternatives(hint))


def _fits_one(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if isinstance(value, bool):  # to Python a bool is an int as well
        return kind not in _YAML_TYPES or kind is bool
    return kind not in _YAML_TYPES or isinstance(value, _YAML_TYPES[kind])


def _built(node: Any) -> Any:
    if isinstance(node, list):
        return [_built(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    if "_target_" not in node:
        return {key: _built(value) for key, value in node.items()}
    target = locate(node["_target_"])
    hints = _hints(target)
    arguments = {key: _as_hinted(_built(value), hints.get(key)) for key, value in _arguments(node).items()}
    return partial(target, **arguments) if node.get("_partial_") else target(**arguments)


def _as_hinted(value: Any, hint: Any) -> Any:
    """The value as its parameter wants it: YAML has no paths, and writes 1 for 1.0."""
    kinds = _alternatives(hint)
    if isinstance(value, str) and Path in kinds and str not in kinds:
        return Path(value).expanduser()
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds and int not in kinds:
        return float(value)
    return value
