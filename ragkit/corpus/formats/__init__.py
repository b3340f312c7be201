"""File formats of questions, runs and judgements: read, written, recognised by their content."""

from ragkit.corpus.formats.catalogue import FORMATS
from ragkit.corpus.formats.examples import read_examples
from ragkit.corpus.formats.sniff import sniff
from ragkit.corpus.formats.table import Format

__all__ = ["FORMATS", "Format", "read_examples", "sniff"]
