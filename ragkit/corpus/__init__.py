"""Passages on disk: the memory-mapped store, the readers of every corpus and question format, the splitter."""

from ragkit.corpus.store import PassageStore
from ragkit.corpus.write import write_store

__all__ = ["PassageStore", "write_store"]
