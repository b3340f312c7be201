"""TREC runs and relevance judgements, and Tevatron's run of three columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ragkit.corpus.formats.lines import lines
from ragkit.corpus.formats.writing import atomically, text_file
from ragkit.errors import FormatError, InputError

Run = dict[str, list[tuple[str, float]]]
Qrels = dict[str, dict[str, int]]


def read_run(path: Path | str) -> Run:
    """Hits of each query, best first: TREC's ``qid Q0 docid rank score tag`` or Tevatron's ``qid docid score``.

    The score decides, not the rank; equal scores stay in the order of the file.

    Raises:
        InputError: there is no such file.
        FormatError: a line has other columns, a score is no number, or a passage comes twice for a query.
    """
    path = Path(path)
    scores: dict[str, dict[str, float]] = {}
    for number, columns in _columns(path, (6, 3)):
        query, passage, score = (columns[0], columns[2], columns[4]) if len(columns) == 6 else columns
        of_query = scores.setdefault(query, {})
        if passage in of_query:
            raise FormatError(path, number, f"the passage {passage!r} comes twice for query {query!r}")
        of_query[passage] = _score(score, path, number)
    return {query: sorted(hits.items(), key=lambda hit: -hit[1]) for query, hits in scores.items()}


def write_run(
    run: Mapping[str, Sequence[tuple[str, float]]], path: Path | str, *, tag: str = "ragkit", overwrite: bool = False
) -> None:
    """A TREC run: hits in the order given (best first), ranks from 1, scores in full precision. Written atomically.

    Raises:
        InputError: an id has white space or is empty, a score is not finite, or ``path`` is there already.
    """
    _checked_ids([tag], what="tag")
    rows = (
        f"{query} Q0 {passage} {rank} {score!r} {tag}\n"
        for query, hits in run.items()
        for rank, (passage, score) in enumerate(_checked_hits(query, hits), start=1)
    )
    _write(rows, Path(path), overwrite=overwrite)


def write_tevatron_run(
    run: Mapping[str, Sequence[tuple[str, float]]], path: Path | str, *, overwrite: bool = False
) -> None:
    """Tevatron's run: ``qid TAB docid TAB score``, hits in the order given. Written atomically.

    Raises:
        InputError: as :func:`write_run`.
    """
    rows = (
        f"{query}\t{passage}\t{score!r}\n"
        for query, hits in run.items()
        for passage, score in _checked_hits(query, hits)
    )
    _write(rows, Path(path), overwrite=overwrite)


def read_qrels(path: Path | str) -> Qrels:
    """Relevance of each judged passage of each query: TREC's ``qid 0 docid rel`` or BEIR's TSV with its header.

    Raises:
        InputError: there is no such file.
        FormatError: a line has other columns, a relevance is no whole number, or a passage is judged twice.
    """
    path = Path(path)
    qrels: Qrels = {}
    for number, columns in _columns(path, (4, 3)):
        if columns == ["query-id", "corpus-id", "score"]:
            continue
        query, passage, relevance = columns[0], columns[-2], columns[-1]
        of_query = qrels.setdefault(query, {})
        if passage in of_query:
            raise FormatError(path, number, f"the passage {passage!r} is judged twice for query {query!r}")
        try:
            of_query[passage] = int(relevance)
        except ValueError as error:
            raise FormatError(path, number, f"wanted a whole number as relevance, got {relevance!r}") from error
    return qrels


def write_qrels(qrels: Mapping[str, Mapping[str, int]], path: Path | str, *, overwrite: bool = False) -> None:
    """TREC judgements, ``qid 0 docid rel``. Written atomically.

    Raises:
        InputError: an id has white space or is empty, or ``path`` is there already.
    """
    rows = (f"{query} 0 {passage} {rel}\n" for query, passage, rel in _judgements(qrels))
    _write(rows, Path(path), overwrite=overwrite)


def write_beir_qrels(qrels: Mapping[str, Mapping[str, int]], path: Path | str, *, overwrite: bool = False) -> None:
    """BEIR's judgements: TSV with the header ``query-id corpus-id score``. Written atomically.

    Raises:
        InputError: as :func:`write_qrels`.
    """
    rows = (f"{query}\t{passage}\t{rel}\n" for query, passage, rel in _judgements(qrels))
    _write(rows, Path(path), header="query-id\tcorpus-id\tscore\n", overwrite=overwrite)


def _columns(path: Path, widths: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines(path):
        if isinstance(line, FormatError):
            raise line
        columns = line.split()
        if len(columns) not in widths:
            wanted = " or ".join(map(str, widths))
            raise FormatError(path, number, f"wanted {wanted} columns, got {len(columns)}: {line[:60]!r}")
        yield number, columns


def _score(text: str, path: Path, number: int) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise FormatError(path, number, f"wanted a finite number as score, got {text!r}")
    return score


def _checked_hits(query: str, hits: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    _checked_ids([query, *(passage for passage, _ in hits)], what="id")
    numbers = [(passage, float(score)) for passage, score in hits]
    if not all(math.isfinite(score) for _, score in numbers):
        raise InputError(f"query {query!r} has a hit whose score is not finite; leave missing hits out of a run")
    return numbers


def _judgements(qrels: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, str, int]]:
    for query, of_query in qrels.items():
        _checked_ids([query, *of_query], what="id")
        yield from ((query, passage, relevance) for passage, relevance in of_query.items())


def _checked_ids(ids: Iterable[str], *, what: str) -> None:
    for found in ids:
        if len(found.split()) != 1 or found != found.strip():
            raise InputError(f"the {what} {found!r} is empty or has white space, which TREC's columns cannot hold")


def _write(rows: Iterable[str], path: Path, *, overwrite: bool, header: str = "") -> None:
    with atomically(path, overwrite=overwrite) as aside, text_file(aside) as file:
        file.write(header)
        file.writelines(rows)
