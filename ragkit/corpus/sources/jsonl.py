"""JSON lines: one passage (or KILT document) a line, whatever its fields are called; BEIR's folder is one such file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ragkit.corpus.sources.fields import question_fields, to_passage
from ragkit.corpus.sources.lines import read_lines
from ragkit.corpus.sources.rows import BadRow, Row
from ragkit.types import Document, Passage


def read_jsonl(path: Path) -> Iterator[Row]:
    """Every line of ``path``, plain or compressed."""
    for line, text in read_lines(path):
        yield Row(path, line, text if isinstance(text, BadRow) else _parse(text))


def read_beir(path: Path) -> Iterator[Row]:
    """The passages of a BEIR folder: its ``corpus.jsonl``, or ``corpus.jsonl.gz``."""
    plain = path / "corpus.jsonl"
    return read_jsonl(plain if plain.exists() else path / "corpus.jsonl.gz")


def _parse(line: str) -> Passage | Document | BadRow:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        return BadRow(f"not JSON: {error.msg} at column {error.colno}")
    except (RecursionError, ValueError) as error:  # thousands of brackets, or of digits
        return BadRow(f"not usable JSON: {error}")
    if not isinstance(record, dict):
        return BadRow(f"found a JSON {type(record).__name__}, wanted an object with an id and a text")
    questions = question_fields(record)
    if questions:
        return BadRow(f"this is a question, not a passage (it has {', '.join(questions)})")
    return to_passage(record)
