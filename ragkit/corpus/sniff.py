"""The table of corpus formats, and which of them a file or folder is, by its content."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ragkit.corpus.sources.fields import question_fields
from ragkit.corpus.sources.jsonl import read_beir, read_jsonl
from ragkit.corpus.sources.lines import DAMAGED, open_binary
from ragkit.corpus.sources.mediawiki import read_mediawiki
from ragkit.corpus.sources.parquet import read_parquet
from ragkit.corpus.sources.rows import Row
from ragkit.corpus.sources.stores import read_stored, store_folder
from ragkit.corpus.sources.tables import HUB, is_saved_dataset, read_hub, read_saved_dataset
from ragkit.corpus.sources.text import MARKDOWN, SUFFIXES, read_text, text_files
from ragkit.corpus.sources.tsv import has_header, read_tsv
from ragkit.errors import FormatError, InputError

_HEAD = 1 << 16
_PARTS = (".tsv", ".jsonl", ".parquet", ".tsv.gz", ".jsonl.gz", ".tsv.bz2", ".jsonl.bz2")


@dataclass(frozen=True, slots=True)
class Source:
    """A format of corpus: what it is, and how its rows are read."""

    description: str
    rows: Callable[[Path], Iterator[Row]]


def _read_parts(path: Path) -> Iterator[Row]:
    if not path.is_dir():
        raise InputError(f"{path} is no folder of TSV, JSONL or Parquet files")
    for part in _parts(path):
        yield from SOURCES[sniff_corpus(part)].rows(part)


SOURCES: dict[str, Source] = {
    "tsv": Source("tab-separated id, text, title (DPR's psgs_w100.tsv); plain, .gz, .bz2 or .xz", read_tsv),
    "jsonl": Source(
        "one passage a line: BEIR, Atlas, Tevatron, FlashRAG, Pyserini; plain, .gz, .bz2 or .xz", read_jsonl
    ),
    "kilt": Source("KILT's knowledge source: JSON lines of documents", read_jsonl),
    "beir": Source("a BEIR folder with corpus.jsonl", read_beir),
    "parquet": Source("a Parquet file with columns id, text and perhaps title", read_parquet),
    "mediawiki": Source("a MediaWiki XML dump, .xml or .xml.bz2: documents", read_mediawiki),
    "text": Source("a .txt or .md file, or a folder of them: documents", read_text),
    "datasets": Source("a folder written by save_to_disk of `datasets`", read_saved_dataset),
    "hub": Source("a data set of the hub, hf:NAME:CONFIG:SPLIT", read_hub),
    "store": Source("a passage store of ragkit, or an index directory that holds one", read_stored),
    "parts": Source("a folder of TSV, JSONL or Parquet files, read in order of name", _read_parts),
}


def sniff_corpus(path: Path | str) -> str:
    """The name in :data:`SOURCES` of what is at ``path``, by its content.

    Raises :class:`InputError` where there is nothing, or questions, or nothing that is known.
    """
    path = Path(path)
    if str(path).startswith(HUB):
        return "hub"
    if path.is_dir():
        return _sniff_folder(path)
    if not path.exists():
        raise InputError(f"there is no file or folder {path}")
    return _sniff_file(path)


def _sniff_folder(path: Path) -> str:
    if store_folder(path) is not None:
        return "store"
    if (path / "corpus.jsonl").is_file() or (path / "corpus.jsonl.gz").is_file():
        return "beir"
    if is_saved_dataset(path):
        return "datasets"
    if _parts(path):
        return "parts"
    if text_files(path):
        return "text"
    raise InputError(f"the folder {path} holds no corpus that is known. {_known()}")


def _parts(path: Path) -> list[Path]:
    return sorted(file for file in path.iterdir() if file.name.endswith(_PARTS) and not file.name.startswith("."))


def _sniff_file(path: Path) -> str:
    try:
        with open_binary(path) as file:
            head = file.read(_HEAD)
    except DAMAGED as error:
        raise FormatError(path, None, f"cannot be read ({error})") from error
    if head.startswith(b"PAR1"):
        return "parquet"
    text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace").lstrip("\r\n ")
    if not text.strip():
        raise InputError(f"{path} is empty")
    if path.name.lower().endswith(MARKDOWN):  # which may well begin with a tag or a bracket
        return "text"
    if text.startswith("<"):
        if "<mediawiki" in text[:4096]:
            return "mediawiki"
        raise InputError(f"{path} is XML or HTML but no MediaWiki dump. {_known()}")
    if text.startswith("["):
        raise InputError(
            f"{path} is a JSON list{_of_questions(text)}; passages are read as JSON lines: jq -c '.[]' FILE"
        )
    line = text.partition("\n")[0].removesuffix("\r")
    if text.startswith("{"):
        return _sniff_json(path, text)
    if "\t" in line:
        _refuse_questions(path, line)
    if path.name.lower().endswith(SUFFIXES) and not has_header(line.split("\t")):
        return "text"
    if "\t" in line:
        return "tsv"
    raise InputError(f"{path} is no corpus that is known; it begins with {line[:60]!r}. {_known()}")


def _sniff_json(path: Path, text: str) -> str:
    line, _, rest = text.partition("\n")
    try:
        names = list(json.loads(line))
    except (ValueError, RecursionError):
        if rest.strip() and not rest.lstrip().startswith("{"):
            raise InputError(
                f"{path} is one JSON document over several lines{_of_questions(text)}; "
                "passages are read as JSON lines, one object a line"
            ) from None
        return "jsonl"  # a first line that is longer than the head, or damaged: its reader says which
    questions = question_fields(names)
    if questions:
        raise InputError(
            f"{path} is a file of questions (it has {', '.join(questions)}), not of passages: "
            "give it as data=, or to `ragkit convert`"
        )
    return "jsonl"


def _refuse_questions(path: Path, line: str) -> None:
    fields = line.split("\t")
    if fields[-1].startswith("[") and fields[-1].endswith("]"):
        raise InputError(
            f"{path} is a file of questions and answers (DPR's qas.csv), not of passages: give it as data="
        )
    if fields[:2] == ["query-id", "corpus-id"]:
        raise InputError(f"{path} holds relevance judgements (BEIR's qrels), not passages")


def _of_questions(text: str) -> str:
    return (
        " of questions, to give as data="
        if '"question"' in text or '"qas"' in text or '"positive_ctxs"' in text
        else ""
    )


def _known() -> str:
    return "Known are: " + "; ".join(f"{name} ({source.description})" for name, source in SOURCES.items())
