"""Writers of passage files; their readers are in ``ragkit.corpus.sources``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ragkit.corpus.formats.writing import text_file, write_lines
from ragkit.corpus.write import write_store
from ragkit.types import Passage

PassageWriter = Callable[[Iterable[Passage], Path], object]
_ROWS = 8192  # passages in memory while a Parquet file is written


def write_tsv(passages: Iterable[Passage], path: Path) -> None:
    """DPR's TSV with its header, a line for each passage: line ends and tabs become spaces, quotes as in csv."""
    with text_file(path) as file:
        file.write("id\ttext\ttitle\n")
        file.writelines(f"{_cell(passage.id)}\t{_cell(passage.text)}\t{_cell(passage.title)}\n" for passage in passages)


def _cell(text: str) -> str:
    flat = in_one_line(text)
    return '"' + flat.replace('"', '""') + '"' if '"' in flat else flat


def in_one_line(text: str) -> str:
    """The text with a space for each line end and each tab, as a line of TSV holds it."""
    return text.replace("\r\n", " ").translate({ord(sign): " " for sign in "\r\n\t"})


def write_jsonl(passages: Iterable[Passage], path: Path) -> None:
    """``{id, title, text}``, which Atlas' passage files are as well."""
    write_lines(({"id": passage.id, "title": passage.title, "text": passage.text} for passage in passages), path)


def write_beir(passages: Iterable[Passage], path: Path) -> None:
    """BEIR's ``{_id, title, text}`` lines; a name without a suffix is a folder, which gets a ``corpus.jsonl``."""
    if not path.suffix:
        path.mkdir()
        path = path / "corpus.jsonl"
    write_lines(({"_id": passage.id, "title": passage.title, "text": passage.text} for passage in passages), path)


def write_flashrag(passages: Iterable[Passage], path: Path) -> None:
    r"""FlashRAG's corpus: ``{id, contents}``, where contents is title (in quotes if it has any), LF and text."""
    write_lines(
        ({"id": passage.id, "contents": f"{_cell(passage.title)}\n{passage.text}"} for passage in passages), path
    )


def write_tevatron(passages: Iterable[Passage], path: Path) -> None:
    """Tevatron's corpus: ``{docid, title, document_text}``."""
    write_lines(
        ({"docid": passage.id, "title": passage.title, "document_text": passage.text} for passage in passages), path
    )


def write_parquet(passages: Iterable[Passage], path: Path) -> None:
    """Parquet with the columns id, title and text, in row groups of 8,192."""
    import pyarrow as pa  # half a second that the other formats need not pay
    import pyarrow.parquet

    schema = pa.schema([(name, pa.string()) for name in ("id", "title", "text")])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for some in _batches(passages):
            columns = [[getattr(passage, name) for passage in some] for name in schema.names]
            writer.write_table(pa.table(columns, schema=schema))


def _batches(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    rest = iter(passages)
    while some := list(itertools.islice(rest, _ROWS)):
        yield some


PASSAGE_WRITERS: dict[str, tuple[str, PassageWriter]] = {
    "tsv": ("DPR's passage TSV (psgs_w100.tsv)", write_tsv),
    "jsonl": ("one {id, title, text} a line; Atlas' passages", write_jsonl),
    "parquet": ("columns id, title, text", write_parquet),
    "beir-corpus": ("BEIR's corpus.jsonl", write_beir),
    "flashrag-corpus": ("FlashRAG's corpus, title and text in 'contents'", write_flashrag),
    "tevatron-corpus": ("Tevatron's corpus, docid and document_text", write_tevatron),
    "store": ("ragkit's memory-mapped passage store", write_store),
}


def hold_passage(name: str, passage: Passage) -> Passage:
    """The passage as it would come back from a file of this format."""
    if name == "tsv":
        return Passage(id=in_one_line(passage.id), text=in_one_line(passage.text), title=in_one_line(passage.title))
    if name == "flashrag-corpus":
        return replace(passage, title=in_one_line(passage.title))
    return passage
