from __future__ import annotations

from pathlib import Path

import pytest

from ragkit.corpus.formats import read_examples
from ragkit.errors import FormatError, InputError
from ragkit.types import Passage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "qrels").mkdir()
    queries = ['{"_id": "q1", "text": "who?"}', '{"_id": "q2", "text": "what?"}', '{"_id": "q3", "text": "why?"}']
    (tmp_path / "queries.jsonl").write_text("\n".join(queries))
    header = "query-id\tcorpus-id\tscore\n"
    (tmp_path / "qrels" / "test.tsv").write_text(header + "q2\td1\t1\nq2\td2\t0\nq3\td3\t2\n")
    return tmp_path


def test_the_judged_queries_of_the_split_come_with_their_passages_by_id(folder: Path) -> None:
    """``queries.jsonl`` holds the queries of all splits: taken whole, train would be in the test."""
    found = {example.id: (example.positives, example.hard_negatives) for example in read_examples(folder)}
    assert found == {
        "q2": ((Passage("d1", ""),), (Passage("d2", ""),)),
        "q3": ((Passage("d3", ""),), ()),
    }


def test_of_several_splits_one_must_be_chosen(folder: Path) -> None:
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    with pytest.raises(InputError, match=r"has judgements for dev, test; choose one: .*qrels/test\.tsv"):
        list(read_examples(folder))
    assert [example.id for example in read_examples(folder / "qrels" / "dev.tsv", format="beir")] == ["q1"]


def test_a_judged_query_that_is_not_there_is_an_error(folder: Path) -> None:
    """It would shrink the test set in silence."""
    with (folder / "qrels" / "test.tsv").open("a") as file:
        file.write("q9\td1\t1\n")
    with pytest.raises(FormatError, match=r"test\.tsv: the judged query 'q9' is not in"):
        list(read_examples(folder))


def test_a_folder_without_queries_is_no_folder_of_questions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no queries\.jsonl"):
        list(read_examples(tmp_path, format="beir"))
