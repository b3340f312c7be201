from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from ragkit.corpus.formats import read_examples
from ragkit.corpus.formats.records import passage_id, question_id
from ragkit.corpus.report import ReadReport
from ragkit.errors import FormatError, InputError
from ragkit.types import Example, Passage

RECORD = {
    "question": "who wrote hamlet",
    "answers": ["Shakespeare", "William Shakespeare"],
    "positive_ctxs": [{"id": "7", "title": "Hamlet", "text": "Hamlet is a play by William Shakespeare."}],
    "hard_negative_ctxs": [{"title": "Ham", "text": "Ham is pork."}],
}


def write_lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_biencoder_lines_become_examples(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "train", RECORD)
    assert list(read_examples(path)) == [
        Example(
            id=question_id("who wrote hamlet"),
            question="who wrote hamlet",
            answers=("Shakespeare", "William Shakespeare"),
            positives=(Passage("7", "Hamlet is a play by William Shakespeare.", "Hamlet"),),
            hard_negatives=(Passage(passage_id("Ham", "Ham is pork."), "Ham is pork.", "Ham"),),
        )
    ]


def test_a_json_list_and_json_lines_of_the_same_records_read_alike(tmp_path: Path) -> None:
    other = RECORD | {"question": "what is ham"}
    lines = write_lines(tmp_path / "lines", RECORD, other)
    listed = tmp_path / "list"
    listed.write_text(json.dumps([RECORD, other], indent=2))
    assert list(read_examples(lines)) == list(read_examples(listed))
    assert len(list(read_examples(listed))) == 2


def test_gzip_bom_crlf_and_blank_lines_change_nothing(tmp_path: Path) -> None:
    """Each of them silently shifts or loses records in readers that split on the wrong thing."""
    plain = write_lines(tmp_path / "plain", RECORD, RECORD)
    odd = tmp_path / "odd"
    odd.write_bytes(gzip.compress(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n\r\n")))
    assert list(read_examples(odd)) == list(read_examples(plain))


def test_a_question_that_comes_twice_gets_a_numbered_id(tmp_path: Path) -> None:
    """Two questions with one id would overwrite one another in a TREC run."""
    path = write_lines(tmp_path / "twice", RECORD, RECORD, RECORD)
    base = question_id("who wrote hamlet")
    assert [example.id for example in read_examples(path)] == [base, f"{base}-2", f"{base}-3"]


def test_an_id_of_the_file_that_comes_twice_is_an_error_with_both_lines(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "ids", RECORD | {"id": "a"}, RECORD | {"id": "b"}, RECORD | {"id": "a"})
    with pytest.raises(FormatError, match=r"ids:3: the id 'a' is taken by the question of line 1"):
        list(read_examples(path))


def test_a_faulty_line_is_named_or_counted(tmp_path: Path) -> None:
    path = tmp_path / "faulty"
    lines = [json.dumps(RECORD | {"id": str(i)}) for i in range(4)]
    lines[1] = lines[1][:-3]
    lines[2] = lines[2].replace('"answers"', '"answrs"')
    path.write_text("\n".join(lines))
    with pytest.raises(FormatError, match="faulty:2: not JSON"):
        list(read_examples(path))
    report = ReadReport()
    kept = [example.id for example in read_examples(path, on_error="skip", report=report)]
    assert (kept, report.read, report.skipped) == (["0", "3"], 2, 2)
    assert "faulty:3: no 'answers' here" in report.reasons[1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": "  "}, "'question' is blank"),
        ({"question": None}, "no 'question' here"),
        ({"question": 3}, "wanted text in 'question', got an integer 3"),
        ({"id": "a\0b"}, "the id .* holds a NUL or half of a surrogate pair"),
        ({"id": "\ud83d"}, "the id .* holds a NUL or half of a surrogate pair"),
        ({"answers": "Shakespeare"}, "wanted a list in 'answers', got text 'Shakespeare'"),
        ({"answers": ["x", 3]}, r"wanted text in 'answers\[1\]', got an integer 3"),
        ({"answers": ["x", " "]}, "'answers' has a blank answer"),
        ({"positive_ctxs": [{"title": "t"}]}, r"positive_ctxs\[0\]: no 'text' here"),
        ({"positive_ctxs": ["t"]}, r"wanted an object in positive_ctxs\[0\], got text 't'"),
        ({"positive_ctxs": [{"text": "t", "id": ""}]}, r"positive_ctxs\[0\]: 'id' is empty"),
    ],
)
def test_a_broken_field_is_named_with_what_was_wanted(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    path = write_lines(tmp_path / "broken", RECORD, RECORD | change)
    with pytest.raises(FormatError, match=f"broken:2: .*{reason}"):
        list(read_examples(path, format="dpr"))


def test_bytes_that_are_not_utf8_are_an_error_of_their_line(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "latin", RECORD, RECORD)
    path.write_bytes(path.read_bytes().replace(b"Ham is", b"H\xf3m is", 1))
    with pytest.raises(FormatError, match=r"latin:1: not UTF-8: byte 0xf3 at byte \d+ of the line"):
        list(read_examples(path, format="dpr"))
    assert len(list(read_examples(path, format="dpr", on_error="skip"))) == 1


def test_an_unknown_format_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown format 'dprr'; choose from .*'dpr'"):
        list(read_examples(write_lines(tmp_path / "x", RECORD), format="dprr"))


def test_the_real_question_files_have_their_counts(data_dir: Path) -> None:
    wanted = {"nq.train": 1896, "nq.dev": 442, "nq.test": 190, "squad.train": 1303, "triviaqa.train": 1379}
    assert {name: sum(1 for _ in read_examples(data_dir / f"{name}.jsonl")) for name in wanted} == wanted


def test_nul_and_lone_surrogates_become_the_replacement_character_and_are_counted(tmp_path: Path) -> None:
    """A tokenizer and Arrow fail on a lone surrogate long after the file was read."""
    context = {"title": "a\ud83d", "text": "b"}
    path = write_lines(tmp_path / "odd", RECORD, RECORD | {"question": "a\0b", "positive_ctxs": [context]})
    report = ReadReport()
    odd = list(read_examples(path, report=report))[1]
    assert (odd.question, odd.positives[0].title, report.replaced) == ("a\ufffdb", "a\ufffd", 1)
    assert odd.id == question_id("a\ufffdb")
