"""File formats of questions, runs and judgements: read, written, recognised by their content."""

from ragkit.corpus.formats.catalogue import FORMATS
from ragkit.corpus.formats.examples import read_examples, write_examples
from ragkit.corpus.formats.sniffing import sniff
from ragkit.corpus.formats.table import Format
from ragkit.corpus.formats.trec import (
    read_qrels,
    read_run,
    write_beir_qrels,
    write_qrels,
    write_run,
    write_tevatron_run,
)

__all__ = [
    "FORMATS",
    "Format",
    "read_examples",
    "read_qrels",
    "read_run",
    "sniff",
    "write_beir_qrels",
    "write_examples",
    "write_qrels",
    "write_run",
    "write_tevatron_run",
]
