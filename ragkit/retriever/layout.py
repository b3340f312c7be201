"""Encoders on disk: plain transformers folders, and the layout of sentence-transformers, which is also ours."""

from __future__ import annotations

import inspect
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ragkit.errors import InputError, ModelNotFound
from ragkit.retriever.options import EncoderOptions
from ragkit.retriever.tower import Tower, load_tower
from ragkit.text.models import quiet
from ragkit.text.templates import Template

_POOLING = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}  # ours -> pooling_mode_*
_POOLING_NEW = {"mean": "mean", "cls": "cls", "lasttoken": "last"}  # pooling_mode since version 6 -> ours
_TYPES = "sentence_transformers.models."  # these names load in every version from 2 to 6
_OURS = ("query_template", "passage_template", "query_max_length", "passage_max_length")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a folder holds: two towers (one object where they share weights) and how they treat their texts."""

    query_tower: Tower
    passage_tower: Tower
    options: EncoderOptions


@dataclass(frozen=True, slots=True)
class _Chain:
    """One route of a saved model: its tower and what follows the transformer."""

    tower: Tower
    pooling: str
    normalize: bool
    max_length: int


def load(folder: Path) -> Loaded:
    """The encoder in ``folder``. ModelNotFound where there is none, InputError for modules ragkit has not."""
    if not (folder / "modules.json").is_file():
        tower = load_tower(folder)
        return Loaded(tower, tower, _default_options(tower.max_positions))
    modules = [(entry["type"], folder / entry["path"]) for entry in _read(folder / "modules.json")]
    if modules and _kind(modules[0][0]) in {"Router", "Asym"}:
        query, passage = _load_routes(modules[0][1], modules[1:])
    else:
        query = passage = _load_chain(modules)
    options = _default_options(passage.max_length).changed(
        {"pooling": passage.pooling, "normalize": passage.normalize, "query_max_length": query.max_length}
        | {"passage_max_length": passage.max_length}
        | _templates_of_prompts(folder)
        | _ours(folder)
    )
    return Loaded(query.tower, passage.tower, options)


def _default_options(longest: int) -> EncoderOptions:
    default = EncoderOptions()
    return EncoderOptions(
        query_max_length=min(longest, default.query_max_length),
        passage_max_length=min(longest, default.passage_max_length),
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelNotFound(f"{path} cannot be read: {error}") from error


def _read_if_there(path: Path) -> dict[str, Any]:
    return dict(_read(path)) if path.is_file() else {}


def _kind(type_name: str) -> str:
    return type_name.rsplit(".", 1)[-1]


def _load_routes(folder: Path, rest: Sequence[tuple[str, Path]]) -> tuple[_Chain, _Chain]:
    config = _read_if_there(folder / "router_config.json") or _read(folder / "config.json")
    structure, types = config["structure"], config["types"]
    if not {"query", "document"} <= structure.keys():
        raise InputError(f"{folder} routes {sorted(structure)}; ragkit needs the routes query and document")
    routes = {
        name: [(types[module], folder / module) for module in structure[name]] + list(rest)
        for name in ("query", "document")
    }
    passage = _load_chain(routes["document"])
    query = passage if structure["query"] == structure["document"] else _load_chain(routes["query"])
    if (query.pooling, query.normalize) != (passage.pooling, passage.normalize):
        raise InputError(f"the two routes of {folder} differ in pooling or normalisation")
    return query, passage


def _load_chain(modules: Sequence[tuple[str, Path]]) -> _Chain:
    """The tower that a list of sentence-transformers modules makes."""
    kinds = [_kind(name) for name, _ in modules]
    known = ["Transformer", "Pooling", "Dense", "Normalize"]
    if kinds not in ([k for k in known if k not in left_out] for left_out in ([], ["Dense"], ["Normalize"], known[2:])):
        raise InputError(f"modules {kinds} are not an encoder that ragkit knows: {known}, the last two optional")
    folders = dict(zip(kinds, (folder for _, folder in modules), strict=True))
    tower = load_tower(folders["Transformer"])
    if "Dense" in folders:
        tower.projection = _load_dense(folders["Dense"])
    limit = _read_if_there(folders["Transformer"] / "sentence_bert_config.json").get("max_seq_length")
    longest = tower.max_positions
    return _Chain(
        tower=tower,
        pooling=_load_pooling(folders["Pooling"]),
        normalize="Normalize" in folders,
        max_length=min(limit or longest, longest),
    )


def _load_pooling(folder: Path) -> str:
    config = _read(folder / "config.json")
    modes = config.get("pooling_mode")
    if modes is None:
        ours = {f"pooling_mode_{name}": pooling for pooling, name in _POOLING.items()}
        modes = [ours.get(key, key) for key, is_on in config.items() if key.startswith("pooling_mode_") and is_on]
    else:
        modes = [_POOLING_NEW.get(mode, mode) for mode in ([modes] if isinstance(modes, str) else modes)]
    if len(modes) != 1 or modes[0] not in _POOLING or not config.get("include_prompt", True):
        raise InputError(f"{folder}: pooling {modes} is not one that ragkit has; choose from {sorted(_POOLING)}")
    return str(modes[0])


def _load_dense(folder: Path) -> nn.Linear:
    config = _read(folder / "config.json")
    if _kind(config.get("activation_function", "Tanh")) != "Identity" or config.get("use_residual"):
        raise InputError(f"{folder}: only a plain linear projection is supported; got {config}")
    linear = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    try:
        if (folder / "model.safetensors").is_file():
            weights = load_file(folder / "model.safetensors")
        else:
            weights = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        raise ModelNotFound(f"the projection in {folder} cannot be read: {error}") from error
    linear.load_state_dict({name.removeprefix("linear."): weight for name, weight in weights.items()})
    return linear.float()


def _templates_of_prompts(folder: Path) -> dict[str, object]:
    prompts = _read_if_there(folder / "config_sentence_transformers.json").get("prompts") or {}
    passage = next((prompts[name] for name in ("document", "passage", "corpus") if prompts.get(name)), "")
    return {
        "query_template": _escaped(prompts.get("query") or "") + "{text}",
        "passage_template": _escaped(passage) + EncoderOptions().passage_template,
    }


def _escaped(prompt: str) -> str:
    return prompt.replace("{", "{{").replace("}", "}}")


def _ours(folder: Path) -> dict[str, object]:
    saved = _read_if_there(folder / "ragkit.json")
    return {name: saved[name] for name in _OURS if name in saved}


def save(query_tower: Tower, passage_tower: Tower, options: EncoderOptions, folder: Path) -> None:
    """Write the encoder aside and put it in place whole; an encoder that was there is replaced, other files never."""
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / "modules.json").exists())):
        raise InputError(f"{folder} holds something that is not a saved encoder; choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as aside:
        new, old = Path(aside) / "new", Path(aside) / "old"
        new.mkdir()
        if query_tower is passage_tower:
            _save_shared(passage_tower, options, new)
        else:
            _save_two(query_tower, passage_tower, options, new)
        _save_extras(options, new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def _save_shared(tower: Tower, options: EncoderOptions, folder: Path) -> None:
    modules = [("Transformer", ""), *((kind, f"{n}_{kind}") for n, kind in enumerate(_kinds(tower, options), start=1))]
    _save_modules(tower, options, {kind: folder / path for kind, path in modules}, options.passage_max_length)
    _write(
        folder / "modules.json",
        [{"idx": n, "name": str(n), "path": path, "type": _TYPES + kind} for n, (kind, path) in enumerate(modules)],
    )


def _save_two(query_tower: Tower, passage_tower: Tower, options: EncoderOptions, folder: Path) -> None:
    structure: dict[str, list[str]] = {}
    sides = (("query", query_tower, options.query_max_length), ("document", passage_tower, options.passage_max_length))
    for route, tower, limit in sides:
        kinds = ["Transformer", *_kinds(tower, options)]
        structure[route] = [f"{route}_{n}_{kind}" for n, kind in enumerate(kinds)]
        folders = {kind: folder / name for kind, name in zip(kinds, structure[route], strict=True)}
        _save_modules(tower, options, folders, limit)
    types = {name: _TYPES + name.rsplit("_", 1)[-1] for names in structure.values() for name in names}
    parameters = {"default_route": "document", "allow_empty_key": True, "route_mappings": {}}
    _write(folder / "router_config.json", {"types": types, "structure": structure, "parameters": parameters})
    _write(folder / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": _TYPES + "Router"}])


def _kinds(tower: Tower, options: EncoderOptions) -> list[str]:
    projection = ["Dense"] if tower.projection is not None else []
    return ["Pooling", *projection, *(["Normalize"] if options.normalize else [])]


def _save_modules(tower: Tower, options: EncoderOptions, folders: Mapping[str, Path], max_length: int) -> None:
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    model: Any = tower.model
    with quiet():
        model.save_pretrained(folders["Transformer"])
        tower.tokenizer.save_pretrained(str(folders["Transformer"]))
    settings: dict[str, object] = {"max_seq_length": max_length, "do_lower_case": False}
    if "add_pooling_layer" in inspect.signature(type(model)).parameters:
        settings["model_args"] = {"add_pooling_layer": False}  # or a random pooler is made up, with a warning
    _write(folders["Transformer"] / "sentence_bert_config.json", settings)
    modes = {f"pooling_mode_{name}": pooling == options.pooling for pooling, name in _POOLING.items()}
    _write(folders["Pooling"] / "config.json", {"word_embedding_dimension": tower.hidden_size} | modes)
    if tower.projection is not None:
        _save_dense(tower.projection, folders["Dense"])


def _save_dense(projection: nn.Linear, folder: Path) -> None:
    weights = {f"linear.{name}": weight.detach().cpu().contiguous() for name, weight in projection.named_parameters()}
    save_file(weights, folder / "model.safetensors")
    sizes = {"in_features": projection.in_features, "out_features": projection.out_features}
    activation = "torch.nn.modules.linear.Identity"
    _write(folder / "config.json", sizes | {"bias": projection.bias is not None, "activation_function": activation})


def _save_extras(options: EncoderOptions, folder: Path) -> None:
    """The prompts that sentence-transformers can use, and in ragkit.json what it cannot hold."""
    prompts = {
        "query": Template(options.query_template).prefix,
        "document": Template(options.passage_template).prefix,
    }
    similarity = "cosine" if options.normalize else "dot"
    saved = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": similarity}
    _write(folder / "config_sentence_transformers.json", saved)
    _write(folder / "ragkit.json", {"version": 1} | {name: getattr(options, name) for name in _OURS})


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
