"""Passages on disk: the memory-mapped store, the readers of every corpus and question format, the splitter."""

from ragkit.corpus.datasets import load_examples
from ragkit.corpus.formats import FORMATS, read_examples, sniff
from ragkit.corpus.store import PassageStore
from ragkit.corpus.write import write_store

__all__ = ["FORMATS", "PassageStore", "load_examples", "read_examples", "sniff", "write_store"]
