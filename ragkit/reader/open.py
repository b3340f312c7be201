"""The reader that a run wrote, whatever its kind."""

from __future__ import annotations

from pathlib import Path

from ragkit.errors import ConfigError, ModelNotFound
from ragkit.reader.extractive import ExtractiveReader
from ragkit.reader.weights import SETTINGS


def open_reader(model: str, *, batch_tokens: int = 8192, device: str = "auto", dtype: str = "auto") -> ExtractiveReader:
    """The trained reader in a run's folder (``RUN`` or ``RUN/reader``), at a hub id or in a package.

    A model without trained heads (an encoder, a retriever) cannot answer and raises ConfigError; a folder without any
    model raises ModelNotFound.
    """
    reader = ExtractiveReader.from_pretrained(_folder(model), batch_tokens=batch_tokens, device=device, dtype=dtype)
    if not reader.is_trained:
        raise ConfigError(
            f"{model} is a model without a trained passage selection head, not a reader; train one from it with: "
            f"ragkit train experiment=extractive reader={model} data.train=FILE out=RUN"
        )
    return reader


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
