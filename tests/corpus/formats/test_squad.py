from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragkit.corpus.formats import read_examples, write_examples
from ragkit.corpus.report import ReadReport
from ragkit.errors import FormatError
from ragkit.types import Example, Passage


def write(path: Path, *answers: dict[str, object]) -> Path:
    questions = [{"id": str(number), "question": "who?", "answers": [answer]} for number, answer in enumerate(answers)]
    path.write_text(json.dumps({"data": [{"title": "A_B", "paragraphs": [{"context": "Ann ran.", "qas": questions}]}]}))
    return path


def test_an_answer_that_does_not_stand_where_the_file_says_names_its_question(tmp_path: Path) -> None:
    """Offsets that have slipped would teach a reader to answer beside the answer."""
    path = write(tmp_path / "f", {"text": "Ann", "answer_start": 0}, {"text": "Ann", "answer_start": 1})
    reason = r"f:1: record 1, paragraphs\[0\], qas\[1\], answers\[0\]: the answer 'Ann' does not stand at"
    with pytest.raises(FormatError, match=reason):
        list(read_examples(path))
    report = ReadReport()
    assert [example.id for example in read_examples(path, on_error="skip", report=report)] == ["0"]
    assert report.skipped == 1


def test_a_question_without_an_answer_is_kept_as_squad_2_means_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    question = {"id": "1", "question": "who?", "answers": [], "is_impossible": True}
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "x", "qas": [question]}]}]}))
    assert next(read_examples(path)).answers == ()


def test_neighbours_of_one_paragraph_share_it_in_the_file(tmp_path: Path) -> None:
    passage, other = Passage("p", "Ann ran.", "A"), Passage("q", "Bob sat.", "A")
    examples = [
        Example("1", "who ran?", ("Ann",), (passage,)),
        Example("2", "what did Ann?", ("ran", "run"), (passage,)),
        Example("3", "who sat?", ("Bob",), (other,)),
    ]
    write_examples(examples, tmp_path / "f", format="squad")
    (article,) = json.loads((tmp_path / "f").read_text())["data"]
    assert [len(paragraph["qas"]) for paragraph in article["paragraphs"]] == [2, 1]
    starts = [answer["answer_start"] for answer in article["paragraphs"][0]["qas"][1]["answers"]]
    assert starts == [4, -1]  # "run" is not in the paragraph
