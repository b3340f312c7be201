"""Reading a corpus: the decided behaviour for every kind of bad input, one test each."""

from __future__ import annotations

import csv
import json
from itertools import islice
from pathlib import Path

import pytest

from ragkit.corpus import (
    SOURCES,
    ReadOptions,
    ReadReport,
    SplitPolicy,
    clean_text,
    read_corpus,
    store_corpus,
    write_store,
)
from ragkit.errors import DuplicateIds, FormatError, InputError
from ragkit.types import Passage


def jsonl(folder: Path, *records: object) -> Path:
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_malformed_row_is_an_error_naming_file_line_and_reason(tmp_path: Path) -> None:
    """fault 12: `Expected object or value` without a line is of no use in 21 million lines."""
    path = jsonl(tmp_path, {"id": "1", "text": "a"}, {"id": "2"})
    with pytest.raises(FormatError, match=r"corpus\.jsonl:2: no field of text, contents, .*\(found 'id'\)") as caught:
        list(read_corpus(path))
    assert (caught.value.path, caught.value.line) == (path, 2)


def test_skipped_rows_are_counted_with_their_reasons_and_the_rest_is_read(tmp_path: Path) -> None:
    """fault 12: a row after a bad one must not be lost, nor a bad one pass for a passage."""
    path = jsonl(tmp_path, {"id": "1", "text": "a"}, {"id": "2"}, [], {"id": "4", "text": "d"})
    report = ReadReport()
    passages = list(read_corpus(path, options=ReadOptions(on_error="skip"), report=report))
    assert [passage.id for passage in passages] == ["1", "4"]
    assert (report.rows, report.read, report.skipped) == (4, 2, 2)
    assert [reason.split(": ")[0].rpartition("/")[2] for reason in report.reasons] == [
        "corpus.jsonl:2",
        "corpus.jsonl:3",
    ]


def test_skipping_ends_where_most_rows_are_bad(tmp_path: Path) -> None:
    """fault 12: a wrong format with on_error=skip must not end in an index of nothing."""
    path = jsonl(tmp_path, *({"id": "1", "text": "a"} if row % 2 else {} for row in range(40)))
    with pytest.raises(InputError, match="20 of 40 rows are malformed"):
        list(read_corpus(path, options=ReadOptions(on_error="skip")))
    assert len(list(read_corpus(path, options=ReadOptions(on_error="skip", max_skipped=0.5)))) == 20


def test_duplicate_ids_are_an_error_with_the_lines_of_both(tmp_path: Path) -> None:
    """fault 14: rows of the store are not lines of the file once a row was skipped or left out."""
    texts = {"id": "a", "text": "x"}, {"id": "e", "text": ""}, {"id": "b", "text": "y"}, {"id": "a", "text": "z"}
    path = jsonl(tmp_path, *texts)
    with pytest.raises(DuplicateIds, match=r"'a' at .*corpus\.jsonl:1, .*corpus\.jsonl:4"):
        store_corpus(path, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_passages_without_text_are_left_out_and_counted_unless_a_title_finds_them(tmp_path: Path) -> None:
    """fault 15: BEIR has passages of a title only; an empty one has a vector of nothing that is near to everything."""
    records = [{"id": "1", "text": " \n"}, {"id": "2", "text": "", "title": "T"}, {"id": "3", "text": "c"}]
    path = jsonl(tmp_path, *records)
    report = ReadReport()
    assert [passage.id for passage in read_corpus(path, report=report)] == ["2", "3"]
    assert (report.empty, report.skipped) == (1, 0)
    assert [passage.id for passage in read_corpus(path, options=ReadOptions(empty="keep"))] == ["1", "2", "3"]
    with pytest.raises(FormatError, match=":1: the text is empty"):
        list(read_corpus(path, options=ReadOptions(empty="raise")))


def test_an_empty_document_is_counted_and_not_lost_in_splitting(tmp_path: Path) -> None:
    """fault 15: splitting nothing gives no passage, silently."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("  \n")
    (tmp_path / "notes" / "b.txt").write_text("some words")
    report = ReadReport()
    assert [passage.id for passage in read_corpus(tmp_path / "notes", report=report)] == ["b.txt-0"]
    assert report.empty == 1


def test_nul_and_lone_surrogates_become_replacement_characters_and_are_counted(tmp_path: Path) -> None:
    """fault 16: a tokenizer raises a misleading TypeError on a lone surrogate; JSON may hold one as an escape."""
    path = jsonl(tmp_path, {"id": "1", "text": "a\x00b", "title": "\ud83d"}, {"id": "2", "text": "\U0001f600 שלום"})
    report = ReadReport()
    passages = list(read_corpus(path, report=report))
    assert passages == [Passage("1", "a\ufffdb", "\ufffd"), Passage("2", "\U0001f600 שלום")]
    assert report.replaced == 1
    assert clean_text("fine \U0001f600") == "fine \U0001f600"


@pytest.mark.parametrize("passage_id", ["", "a\x00", "\ud800"])
def test_an_id_is_kept_as_it_is_or_refused(tmp_path: Path, passage_id: str) -> None:
    """fault 16: an id that was repaired no longer matches the one in the qrels."""
    with pytest.raises(FormatError, match=r":1: the id .*(is empty|lone surrogate)"):
        list(read_corpus(jsonl(tmp_path, {"id": passage_id, "text": "a"})))
    kept = " wiki:1/é\u200f "
    assert [p.id for p in read_corpus(jsonl(tmp_path, {"id": kept, "text": "a"}))] == [kept]


def test_a_field_of_a_megabyte_is_read_whole_and_counted_as_long(tmp_path: Path) -> None:
    """fault 17: csv's own limit is 131,072 characters; an encoder's is 512 tokens, of which the report warns."""
    text = "word " * 250_000
    report = ReadReport()
    passages = list(
        read_corpus(jsonl(tmp_path, {"id": "1", "text": text}, {"id": "2", "text": "short"}), report=report)
    )
    assert passages[0].text == text
    assert report.long == 1
    assert "1 are long" in report.summary()


def test_passages_are_split_only_when_asked_and_documents_unless_told_otherwise(tmp_path: Path) -> None:
    """Splitting what is already split changes its ids, and then no gold id is found."""
    path = jsonl(tmp_path, {"id": "1", "text": "word " * 250})
    assert [p.id for p in read_corpus(path)] == ["1"]
    assert [p.id for p in read_corpus(path, options=ReadOptions(split=SplitPolicy()))] == ["1-0", "1-1", "1-2"]
    document = tmp_path / "a.txt"
    document.write_text("word " * 250)
    assert [p.id for p in read_corpus(document)] == ["a.txt-0", "a.txt-1", "a.txt-2"]
    whole = ReadOptions(split=SplitPolicy(unit="document"))
    assert [p.id for p in read_corpus(document, options=whole)] == ["a.txt"]


def test_a_corpus_of_nothing_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    """fault 19: an index of no passages fails later, in each library in its own way."""
    path = tmp_path / "corpus.tsv"
    path.write_text("id\ttext\ttitle\n1\t \t\n")
    with pytest.raises(InputError, match=r"gives no passages to index \(read 0 passages; left out 1 without text\)"):
        store_corpus(path, tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_wrong_format_is_a_message_whatever_is_there(tmp_path: Path, name: str) -> None:
    """format= overrules the sniffing, and each reader then meets what it was not made for."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("neither this\nnor that\x01\n")
    readable = [("file", "text")]  # anything is text
    for path in ("absent", "folder", "file"):
        if (path, name) in readable or name == "hub":
            continue
        with pytest.raises(InputError):
            store_corpus(tmp_path / path, tmp_path / "store", options=ReadOptions(format=name))


def test_a_store_is_linked_and_not_encoded_again_unless_it_is_to_be_split(tmp_path: Path) -> None:
    """A second index of the same 13 GB must not cost another 13 GB."""
    first = write_store([Passage("1", "word " * 150)], tmp_path / "index" / "corpus")
    linked = store_corpus(tmp_path / "index", tmp_path / "second")
    assert linked.digest == first.digest
    assert (linked.folder / "ids.row.npy").samefile(first.folder / "ids.row.npy")
    split = store_corpus(tmp_path / "index", tmp_path / "third", options=ReadOptions(split=SplitPolicy()))
    assert len(split) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tvs"}, r"unknown corpus format 'tvs'; choose from \['beir', "),
        ({"on_error": "ignore"}, r"on_error is 'ignore'; choose from \['raise', 'skip'\]"),
        ({"empty": "no"}, "empty is 'no'; choose from"),
        ({"max_skipped": 3.0}, "max_skipped is 3.0; it is a share"),
    ],
)
def test_wrong_options_are_refused_with_the_choices(options: dict[str, object], message: str) -> None:
    """A misspelt on_error that counts as neither would raise at the first bad row, hours later."""
    with pytest.raises(InputError, match=message):
        ReadOptions(**options)  # type: ignore[arg-type]


def test_the_real_corpus_is_read_as_the_csv_module_reads_it(data_dir: Path) -> None:
    """The file was written by a csv writer and is balanced: there our rule and csv's must agree on every row."""
    with (data_dir / "corpus.tsv").open(newline="", encoding="utf-8") as file:
        wanted = [Passage(*row) for row in islice(csv.reader(file, delimiter="\t"), 1, 10_000)]
    assert list(islice(read_corpus(data_dir / "corpus.tsv"), 9_999)) == wanted
    assert any('"' in passage.text for passage in wanted)
