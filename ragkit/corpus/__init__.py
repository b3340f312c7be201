"""Passages on disk: the memory-mapped store, the readers of every corpus and question format, the splitter."""

from ragkit.corpus.datasets import load_examples
from ragkit.corpus.formats import FORMATS, read_examples, sniff
from ragkit.corpus.read import ReadOptions, clean_text, read_corpus, store_corpus
from ragkit.corpus.report import ReadReport
from ragkit.corpus.sniff import SOURCES, sniff_corpus
from ragkit.corpus.sources.stores import link_store
from ragkit.corpus.split import SplitPolicy, split_document
from ragkit.corpus.store import PassageStore
from ragkit.corpus.write import write_store

__all__ = [
    "FORMATS",
    "PassageStore",
    "ReadOptions",
    "ReadReport",
    "SOURCES",
    "SplitPolicy",
    "clean_text",
    "link_store",
    "load_examples",
    "read_corpus",
    "read_examples",
    "sniff",
    "sniff_corpus",
    "split_document",
    "store_corpus",
    "write_store",
]
