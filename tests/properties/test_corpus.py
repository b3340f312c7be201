"""Whatever the text: the store gives it back, a TSV line is one row, splitting loses no word, reading never crashes."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.corpus import PassageStore, ReadOptions, ReadReport, SplitPolicy, read_corpus, split_document, write_store
from ragkit.errors import InputError, RagkitError
from ragkit.types import Document, Passage

CASES = settings(max_examples=60, deadline=None)
STRINGS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
PASSAGES = st.lists(
    st.builds(Passage, id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), text=STRINGS, title=STRINGS),
    max_size=20,
    unique_by=lambda passage: passage.id,
)
SPLITS = st.tuples(st.integers(1, 12), st.integers(0, 11)).filter(lambda pair: pair[1] < pair[0])


@contextmanager
def temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@CASES
@given(PASSAGES, st.integers(1, 7), st.data())
def test_a_store_gives_back_what_was_written_and_its_digest_does_not_depend_on_shards(
    passages: list[Passage], shard_rows: int, data: st.DataObject
) -> None:
    """Any character, any sharding, any rows in any order."""
    with temporary() as folder:
        store = write_store(passages, folder / "a", shard_rows=shard_rows)
        assert store.digest == write_store(passages, folder / "b").digest
        rows = data.draw(st.lists(st.integers(0, len(passages) - 1), max_size=30)) if passages else []
        opened = PassageStore.open(store.folder, verify="full")
        assert opened.take(rows) == [passages[row] for row in rows]
        assert opened.rows([passage.id for passage in passages]).tolist() == list(range(len(passages)))
        assert [p for batch in opened.batches(3) for p in batch] == passages


@CASES
@given(st.lists(st.text(st.sampled_from("ab\"' \\,é"), max_size=8), min_size=1, max_size=12))
def test_every_physical_line_of_a_tsv_is_one_row_whatever_its_quotes(texts: list[str]) -> None:
    """fault 13, for any arrangement of quotes."""
    with temporary() as folder:
        path = folder / "corpus.tsv"
        path.write_text("id\ttext\ttitle\n" + "".join(f"{row}\t{text}\tT\n" for row, text in enumerate(texts)))
        passages = list(read_corpus(path, options=ReadOptions(empty="keep")))
        assert [passage.id for passage in passages] == [str(row) for row in range(len(texts))]
        assert {passage.title for passage in passages} == {"T"}


@CASES
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('"\t'), max_size=12)))
def test_what_a_csv_writer_wrote_is_read_as_it_was(texts: list[str]) -> None:
    """DPR's files come from such a writer: quotes doubled, fields with tabs or quotes enclosed."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerows([["id", "text", "title"], *([row, f"x{text}", "T"] for row, text in enumerate(texts))])
    with temporary() as folder:
        path = folder / "corpus.tsv"
        path.write_text(out.getvalue(), encoding="utf-8")
        assert [passage.text for passage in read_corpus(path)] == [f"x{text}" for text in texts]


@CASES
@given(st.lists(STRINGS, max_size=60).map(" ".join), SPLITS)
def test_splitting_keeps_every_word_in_order_and_every_window_within_its_size(
    text: str, split: tuple[int, int]
) -> None:
    """With the repeats taken off, the windows are the document again."""
    size, stride = split
    pieces = list(split_document(Document("d", text, "T"), SplitPolicy(size=size, stride=stride)))
    units = [len(list(split_document(Document("d", piece.text), SplitPolicy(size=1)))) for piece in pieces]
    assert all(count <= size for count in units)
    assert all(count == size for count in units[:-1])
    apart = [piece.text for piece in split_document(Document("d", text), SplitPolicy(size=size))]
    assert "".join("".join(apart).split()) == "".join(text.split())
    assert [piece.id for piece in pieces] == [f"d-{number}" for number in range(len(pieces))]


@CASES
@given(st.binary(max_size=200), st.sampled_from(["", "id\ttext\ttitle\n", '{"id": "1", "text": "a"}\n', "<mediawiki>"]))
def test_no_bytes_make_reading_fail_in_another_way_than_with_a_message(content: bytes, head: str) -> None:
    """A traceback for bad input is a defect: every fault must be a RagkitError, and on_error=skip must go on."""
    for on_error in ("raise", "skip"):
        report = ReadReport()
        with temporary() as folder:
            path = folder / "corpus"
            path.write_bytes(head.encode() + content)
            try:
                read = list(read_corpus(path, options=ReadOptions(on_error=on_error), report=report))
            except RagkitError:
                continue
            assert report.read == len(read)
            if read:
                write_store({passage.id: passage for passage in read}.values(), folder / "store")


@CASES
@given(
    st.lists(
        st.dictionaries(st.sampled_from(["id", "text", "title"]), st.none() | st.text() | st.integers()), max_size=8
    )
)
def test_every_row_is_read_or_skipped_or_left_out_and_none_is_lost(records: list[dict[str, object]]) -> None:
    """rows = read + skipped + empty: the count that shows a reader that loses rows."""
    report = ReadReport()
    with temporary() as folder:
        path = folder / "corpus.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        options = ReadOptions(format="jsonl", on_error="skip", max_skipped=1.0)
        with suppress(InputError):  # raised at the end where nothing else was there
            list(read_corpus(path, options=options, report=report))
    assert report.rows == len(records) == report.read + report.skipped + report.empty


def test_the_digest_of_a_known_store_never_changes() -> None:
    """An index on disk carries it: a change of the formula would orphan every index there is."""
    with temporary() as folder:
        store = write_store([Passage("1", "text", "title"), Passage("2", "é")], folder / "store")
        assert store.digest == "09cd4edbdf52bc659e08114613ca14b14bcaa1f92a89bbb23f7c7b16647b6f88"
        assert store.take(np.array([1], dtype=np.int32)) == [Passage("2", "é")]
