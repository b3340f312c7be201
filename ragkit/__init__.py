"""Retrieval-augmented question answering: retrievers, readers, and retrievers trained from answers alone."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragkit.pipeline import RetrieveThenRead, load

    __version__: str
__all__ = ["RetrieveThenRead", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """What takes time to import, when it is asked for: ``load`` and ``RetrieveThenRead`` need torch (seconds)."""
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("ragkit")
    if name in {"load", "RetrieveThenRead"}:
        return getattr(importlib.import_module("ragkit.pipeline"), name)
    raise AttributeError(f"module 'ragkit' has no attribute {name!r}")
