"""The reader that a run wrote, whatever its kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ragkit.errors import ConfigError, ModelNotFound
from ragkit.reader.protocol import Reader
from ragkit.reader.weights import KIND, SETTINGS, read_settings
from ragkit.text.models import resolve


def open_reader(model: str, *, batch_tokens: int = 8192, device: str = "auto", dtype: str = "auto") -> Reader:
    """The trained reader in a run's folder (``RUN`` or ``RUN/reader``), at a hub id or in a package.

    The kind is the one that ragkit wrote beside the weights; of a model from elsewhere, an encoder-decoder reads as
    FiD, a decoder as a causal reader, and everything else must have the heads of an extractive one. A model without
    trained heads (an encoder, a retriever) cannot answer and raises ConfigError; a folder without any model raises
    ModelNotFound.
    """
    found = _folder(model)
    kind = reader_kind(found)
    if kind not in READERS:
        raise ConfigError(
            f"{model} holds a {kind}, wanted a reader ({', '.join(sorted(READERS))}); "
            "give the folder RUN or RUN/reader of a trained one"
        )
    reader = READERS[kind](found, batch_tokens, device, dtype)
    require_trained(reader)
    return reader


def reader_kind(model: str) -> str:
    """The kind of reader at a model reference: a key of :data:`READERS`, or what its settings say instead."""
    folder = Path(resolve(model))
    settings = read_settings(folder)
    if settings is not None:
        return str(settings.get("kind"))
    config = _config(folder)
    architecture = str((config.get("architectures") or [""])[0])
    if config.get("is_encoder_decoder"):
        return "fid"
    if folder.suffix == ".gguf" or architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return "causal"
    return KIND


def require_trained(reader: Reader | None) -> None:
    """Raise ConfigError for a reader whose weights are fresh: its answers would be random and look like any others."""
    if reader is None or getattr(reader, "is_trained", True):
        return
    model = getattr(reader, "reference", "") or "this model"
    raise ConfigError(
        f"{model} has fresh weights, so it is not a reader and would answer at random; train one from it first: "
        "ragkit train experiment=extractive (or fid) reader=MODEL data.train=FILE out=RUN, and give reader=RUN"
    )


def _extractive(model: str, batch_tokens: int, device: str, dtype: str) -> Reader:
    from ragkit.reader.extractive import ExtractiveReader

    return ExtractiveReader.from_pretrained(model, batch_tokens=batch_tokens, device=device, dtype=dtype)


def _fusion(model: str, batch_tokens: int, device: str, dtype: str) -> Reader:
    from ragkit.reader.fid import FusionReader

    return FusionReader.from_pretrained(model, batch_tokens=batch_tokens, device=device, dtype=dtype)


def _causal(model: str, batch_tokens: int, device: str, dtype: str) -> Reader:
    from ragkit.reader.causal import CausalReader

    return CausalReader.from_pretrained(model, batch_tokens=batch_tokens, device=device, dtype=dtype)


# the kinds that ragkit.json may name
READERS: dict[str, Callable[[str, int, str, str], Reader]] = {
    KIND: _extractive,
    "fid": _fusion,
    "fido": _fusion,
    "causal": _causal,
}


def _config(folder: Path) -> dict[str, Any]:
    """The model's own config.json; {} where there is none (transformers will say so) or it cannot be read."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _folder(model: str) -> str:
    folder = Path(model).expanduser()
    if not folder.is_dir() or (folder / SETTINGS).is_file():
        return model
    if (folder / "reader").is_dir():
        return str(folder / "reader")
    if not (folder / "config.json").is_file():
        found = sorted(path.name for path in folder.iterdir())[:8]
        raise ModelNotFound(
            f"{model} holds no reader (no {SETTINGS}, no reader/, no config.json; it holds {found}); "
            "give the out= folder of a finished: ragkit train experiment=extractive"
        )
    return model
