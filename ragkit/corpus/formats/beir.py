"""BEIR's folder of questions: ``queries.jsonl``, ``qrels/SPLIT.tsv``. Source: https://github.com/beir-cellar/beir."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ragkit.corpus.formats.holding import holding
from ragkit.corpus.formats.json_stream import records
from ragkit.corpus.formats.records import Record
from ragkit.corpus.formats.table import Found
from ragkit.corpus.formats.trec import read_qrels, write_beir_qrels
from ragkit.corpus.formats.writing import write_lines
from ragkit.errors import FormatError, InputError
from ragkit.types import Example, Passage

QUERIES = "queries.jsonl"


def read(path: Path) -> Iterator[Found]:
    """The examples of a folder with one split, of ``qrels/SPLIT.tsv``, or of ``queries.jsonl`` without judgements.

    With judgements only the judged queries come: relevance 1 and more are positives, 0 and less hard negatives, all by
    id alone (the texts are in ``corpus.jsonl``).

    Raises:
        InputError: the folder has several splits.
    """
    queries, split = places(path)
    qrels = read_qrels(split) if split is not None else None
    missing = dict.fromkeys(qrels or ())
    for record in records(queries):
        if isinstance(record, FormatError):
            yield record
            continue
        try:
            example = _parse(record, qrels)
        except FormatError as error:
            yield error
            continue
        missing.pop(example.id, None)
        if qrels is None or example.id in qrels:
            yield record.line, example
    for query in missing:
        yield FormatError(split or queries, None, f"the judged query {query!r} is not in {queries}")


def places(path: Path) -> tuple[Path, Path | None]:
    """The file of queries and the file of judgements that ``path`` stands for.

    Raises:
        InputError: a folder has no queries, or several splits.
    """
    if path.is_file():
        is_split = path.parent.name == "qrels" and path.suffix == ".tsv"
        return (_queries(path.parent.parent), path) if is_split else (path, None)
    splits = sorted((path / "qrels").glob("*.tsv"))
    if len(splits) > 1:
        names = ", ".join(split.stem for split in splits)
        raise InputError(f"{path} has judgements for {names}; choose one: {splits[-1]}")
    return _queries(path), splits[0] if splits else None


def _queries(folder: Path) -> Path:
    found = [file for file in (folder / QUERIES, folder / f"{QUERIES}.gz") if file.is_file()]
    if not found:
        raise InputError(f"{folder} has no {QUERIES}, so it is no BEIR folder of questions")
    return found[0]


def _parse(record: Record, qrels: Mapping[str, Mapping[str, int]] | None) -> Example:
    query = record.identifier("_id")
    metadata = record.part("metadata") if "metadata" in record else record.inner({}, "metadata")
    judged = (qrels or {}).get(query, {})
    return Example(
        id=query,
        question=record.nonblank("text"),
        answers=metadata.answers("answers", default=()),
        positives=tuple(Passage(id=passage, text="") for passage, relevance in judged.items() if relevance > 0),
        hard_negatives=tuple(Passage(id=passage, text="") for passage, relevance in judged.items() if relevance <= 0),
    )


def write(examples: Iterable[Example], folder: Path) -> None:
    """A BEIR folder with the split ``test``; answers go into the queries' metadata, which BEIR leaves free.

    Raises:
        InputError: an id has white space.
    """
    qrels: dict[str, dict[str, int]] = {}
    folder.mkdir()

    def queries() -> Iterator[dict[str, Any]]:
        for example in examples:
            qrels[example.id] = judgements(example)
            metadata = {"answers": list(example.answers)} if example.answers else {}
            yield {"_id": example.id, "text": example.question, "metadata": metadata}

    write_lines(queries(), folder / QUERIES)
    write_beir_qrels(qrels, folder / "qrels" / "test.tsv")


def judgements(example: Example) -> dict[str, int]:
    """Relevance 1 of each positive. Hard negatives are mined, not judged: they are left out."""
    return {passage.id: 1 for passage in example.positives}


def hold(example: Example) -> Example | None:
    """Id, answers and the positives by id, once each; an example without one is not judged."""
    if not example.positives:
        return None
    kept = holding("id", "answers")(example)
    return kept and replace(kept, positives=tuple(Passage(id=found, text="") for found in judgements(example)))
