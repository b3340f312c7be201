"""The format of a file, from its content: the name never decides."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ragkit.corpus.formats import beir
from ragkit.corpus.formats.catalogue import of_corpus
from ragkit.corpus.formats.json_stream import first_record
from ragkit.corpus.formats.lines import head
from ragkit.corpus.formats.pickles import is_pickle, refusal
from ragkit.corpus.sniff import sniff_corpus
from ragkit.errors import FormatError, InputError

# the first row whose keys are all in the record decides
_KEYS: tuple[tuple[str, frozenset[str]], ...] = tuple(
    (name, frozenset(keys.split()))
    for name, keys in (
        ("dpr", "question positive_ctxs"),
        ("fid", "question ctxs target"),
        ("dpr-results", "question ctxs answers"),
        ("fid", "question ctxs"),
        ("tevatron", "query_id query positive_passages"),
        ("tevatron", "query_id query negative_passages"),
        ("tevatron-v2", "query_id query_text"),
        ("flashrag", "question golden_answers"),
        ("kilt", "input output"),
        ("kilt", "id input"),
        ("atlas-fever", "claim label"),
        ("atlas-choice", "question options answer"),
        ("atlas-output", "query generation"),
        ("atlas-base", "query target"),
        ("dpr-gold", "question context example_id"),
        ("squad-rows", "question context answers"),
        ("atlas-qa", "question answers"),
        ("nq-open", "question answer"),
        ("mss", "sent_text linguistic_ent"),
        ("triviaqa", "Question QuestionId"),
        ("squad", "paragraphs"),
    )
)
# a question, TAB, a list of texts, perhaps in quotes, in the first line: the question may begin as JSON does
_QAS = re.compile(r""".*\S.*\t"*[\[(]("*['"].*)?[\])]"*\r?(\n|$)""")
_VECTORS = {b"\x93NUMPY": "a NumPy array", b"PK\x03\x04": "a zip archive (or a NumPy .npz)"}


def sniff(path: Path | str) -> str:
    """The name in ``FORMATS`` of the format of a file or folder.

    Raises:
        InputError: there is nothing, or no format is like this; a pickle is refused with the way out of it.
        FormatError: the file is JSON and broken before the end of its first record.
    """
    path = Path(path)
    if path.is_dir():
        return "beir" if _is_beir(path) else _corpus(path)
    start = head(path)
    _refuse(path, start)
    text = start.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace").lstrip("\r\n\t ")
    if _QAS.match(text):
        return "dpr-qas"
    if text.startswith(("{", "[")):
        return _of_json(path)
    found = _of_lines([line.rstrip("\r") for line in text.split("\n")[:20] if line.strip()])
    return found or _corpus(path)


def _is_beir(folder: Path) -> bool:
    return (folder / beir.QUERIES).is_file() or (folder / f"{beir.QUERIES}.gz").is_file()


def _corpus(path: Path) -> str:
    return of_corpus(sniff_corpus(path))


def _refuse(path: Path, start: bytes) -> None:
    if not start.strip():
        raise InputError(f"{path} is empty")
    if is_pickle(start):
        raise InputError(refusal(path))
    for magic, what in _VECTORS.items():
        if start.startswith(magic):
            raise InputError(f"{path} is {what}: it holds no questions and no passages")


def _of_json(path: Path) -> str:
    record = first_record(path)
    if isinstance(record, FormatError):
        raise record
    if record is None:
        raise InputError(f"{path} holds an empty JSON list, whose format cannot be seen; name it")
    if "contexts" in record.value and "question" in record.value:
        return "pyserini"
    for name, keys in _KEYS:
        if keys.issubset(record.value):
            return name
    if _is_query_of_beir(record.value):
        return "beir"
    if not _is_passage(record.value):
        raise InputError(f"{path}: no format has records with the keys {sorted(record.value)}; see docs/formats.md")
    return _corpus(path)


def _is_query_of_beir(value: Mapping[str, Any]) -> bool:
    return {"_id", "text"}.issubset(value) and "title" not in value


def _is_passage(keys: Collection[str]) -> bool:
    return any(key in keys for key in ("text", "contents", "document_text", "passage", "content"))


def _of_lines(some: list[str]) -> str | None:
    """The format of lines that are not JSON; every one of the first few must fit."""
    columns = [line.split() for line in some[:-1] or some]  # the last may be cut
    if columns[0] == ["query-id", "corpus-id", "score"]:
        return "beir-qrels"
    if all(len(row) == 6 and _is_number(row[3]) and _is_number(row[4]) for row in columns):
        return "trec-run"
    if all(len(row) == 4 and row[3].lstrip("-").isdigit() and row[1] in {"0", "Q0"} for row in columns):
        return "trec-qrels"
    if all(len(row) == 3 and _is_number(row[2]) for row in columns):
        return "tevatron-run"
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
