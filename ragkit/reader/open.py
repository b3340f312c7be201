"""The reader that a run wrote, whatever its kind."""

from __future__ import annotations

from pathlib import Path

from ragkit.errors import ConfigError, ModelNotFound
from ragkit.reader.extractive import ExtractiveReader
from ragkit.reader.protocol import Reader
from ragkit.reader.weights import SETTINGS


def open_reader(model: str, *, batch_tokens: int = 8192, device: str = "auto", dtype: str = "auto") -> ExtractiveReader:
    """The trained reader in a run's folder (``RUN`` or ``RUN/reader``), at a hub id or in a package.

    A model without trained heads (an encoder, a retriever) cannot answer and raises ConfigError; a folder without any
    model raises ModelNotFound.
    """
    reader = ExtractiveReader.from_pretrained(_folder(model), batch_tokens=batch_tokens, device=device, dtype=dtype)
    require_trained(reader)
    return reader


def require_trained(reader: Reader | None) -> None:
    """Raise ConfigError for a reader whose heads are fresh: its answers would be random and look like any others."""
    if reader is None or getattr(reader, "is_trained", True):
        return
    model = getattr(reader, "reference", "") or "this model"
    raise ConfigError(
        f"{model} has fresh heads, so it is not a reader and would answer at random; train one from it first: "
        "ragkit train experiment=extractive reader=MODEL data.train=FILE out=RUN, and give reader=RUN"
    )


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
