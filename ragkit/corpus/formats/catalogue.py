"""The one table of formats: everything that lists, sniffs, reads, writes or documents formats takes it from here."""

from __future__ import annotations

from ragkit.corpus.formats import dpr
from ragkit.corpus.formats.json_stream import records
from ragkit.corpus.formats.table import Format, parse_each

FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        Format(
            "dpr",
            "examples",
            "DPR and Contriever training data, JSON list or JSONL",
            read_with=lambda path: parse_each(records(path), dpr.parse_biencoder),
        ),
    )
}
