"""Passages on disk: the memory-mapped store, the readers of every corpus and question format, the splitter."""

from ragkit.corpus.convert import ConvertOptions, ConvertReport
from ragkit.corpus.datasets import load_examples
from ragkit.corpus.formats import (
    FORMATS,
    Format,
    read_examples,
    read_qrels,
    read_run,
    write_examples,
    write_qrels,
    write_run,
)
from ragkit.corpus.read import ReadOptions, clean_text, read_corpus, store_corpus
from ragkit.corpus.report import ReadReport
from ragkit.corpus.sniff import SOURCES, sniff_corpus
from ragkit.corpus.sources.stores import link_store
from ragkit.corpus.split import SplitPolicy, split_document
from ragkit.corpus.store import PassageStore
from ragkit.corpus.write import write_store

__all__ = [
    "ConvertOptions",
    "ConvertReport",
    "FORMATS",
    "Format",
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
    "read_qrels",
    "read_run",
    "sniff_corpus",
    "split_document",
    "store_corpus",
    "write_examples",
    "write_qrels",
    "write_run",
    "write_store",
]
