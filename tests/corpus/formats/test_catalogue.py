"""One hand-written record of each format (``specimens/``), in the shape its authors publish, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragkit.corpus.formats import FORMATS, read_examples, sniff
from ragkit.corpus.formats.records import passage_id, question_id
from ragkit.errors import FormatError
from ragkit.types import Example, Passage, ScoredPassage

HAMLET = "who wrote hamlet"
OWN = question_id(HAMLET)
TEXT = "Hamlet is a play by William Shakespeare."
PLAY = Passage("7", TEXT, "Hamlet")
UNNAMED = Passage(passage_id("Hamlet", TEXT), TEXT, "Hamlet")
PORK = Passage("8", "Pork.", "Ham")
HIT = ScoredPassage(PLAY, 80.5)
SHAKESPEARE = ("Shakespeare", "W. Shakespeare")


def specimen(name: str) -> bytes:
    return (Path(__file__).parent / "specimens" / f"{name}.txt").read_bytes()


WANTED = {
    "dpr": Example(OWN, HAMLET, SHAKESPEARE, positives=(PLAY,), hard_negatives=(PORK,)),
    "dpr-qas": Example(OWN, HAMLET, ("Shakespeare", 'W. "Shakespeare')),
    "dpr-results": Example(OWN, HAMLET, SHAKESPEARE, retrieved=(HIT,)),
    "dpr-gold": Example("-32", HAMLET, (), positives=(UNNAMED,)),
    "fid": Example(
        "0",
        HAMLET,
        SHAKESPEARE,
        target="Shakespeare",
        retrieved=(ScoredPassage(UNNAMED, 1.0), ScoredPassage(Passage("9", "Pork.", "Ham"), 0.5)),
    ),
    "atlas-qa": Example(OWN, HAMLET, SHAKESPEARE),
    "atlas-base": Example(OWN, HAMLET, ("Shakespeare",), target="Shakespeare"),
    "atlas-choice": Example(OWN, HAMLET, ("Shakespeare",)),
    "atlas-fever": Example(OWN, HAMLET, ("REFUTES",)),
    "atlas-output": Example(OWN, HAMLET, SHAKESPEARE, retrieved=(HIT,)),
    "nq-open": Example(OWN, HAMLET, SHAKESPEARE),
    "triviaqa": Example("tc_2", HAMLET, SHAKESPEARE, target="Shakespeare"),
    "squad": Example("5", HAMLET, ("Shakespeare",), positives=(UNNAMED,)),
    "squad-rows": Example("5", HAMLET, ("Shakespeare",), positives=(UNNAMED,)),
    "kilt": Example("k1", HAMLET, ("Shakespeare",), positives=(Passage("13554", "", "Hamlet"),)),
    "pyserini": Example("0", HAMLET, SHAKESPEARE, retrieved=(HIT,)),
    "beir": Example("q1", HAMLET, ()),
    "flashrag": Example("test_0", HAMLET, SHAKESPEARE),
    "tevatron": Example("3", HAMLET, SHAKESPEARE, positives=(PLAY,), hard_negatives=(PORK,)),
    "tevatron-v2": Example(
        "3", HAMLET, (), positives=(Passage("7", ""),), hard_negatives=(Passage("8", ""), Passage("9", ""))
    ),
    "mss": Example(question_id("Hamlet is by [MASK]."), "Hamlet is by [MASK].", ("Shakespeare",)),
}


@pytest.mark.parametrize("name", WANTED)
def test_a_published_record_is_recognised_and_read(name: str, tmp_path: Path) -> None:
    """The name and the suffix say nothing: what a file is called is often wrong."""
    path = tmp_path / "download.bin"
    path.write_bytes(specimen(name))
    assert sniff(path) == name
    assert list(read_examples(path)) == [WANTED[name]]


def test_every_format_of_questions_has_a_specimen() -> None:
    """A format added without one would go untested."""
    assert {name for name, known in FORMATS.items() if known.read_with} == set(WANTED)


@pytest.mark.parametrize("name", WANTED)
def test_a_record_cut_off_in_the_middle_is_an_error_that_names_the_file_and_its_line(name: str, tmp_path: Path) -> None:
    """A download that broke off must not read as a shorter file."""
    path = tmp_path / "cut"
    path.write_bytes(specimen(name)[: len(specimen(name)) * 2 // 3])
    with pytest.raises(FormatError, match=r"cut:\d+: "):
        list(read_examples(path, format=name))


@pytest.mark.parametrize("name", WANTED)
def test_a_record_of_another_kind_is_an_error_and_not_an_empty_example(name: str, tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_text('{"data": [{"x": 1}], "Data": [{"x": 1}], "y": {"x": 1}}')
    with pytest.raises(FormatError, match="other:1: "):
        list(read_examples(path, format=name))


def test_the_real_files_are_recognised_and_have_their_counts(data_dir: Path) -> None:
    wanted = {
        "official/NQ-open.dev.jsonl": ("nq-open", 3610),
        "official/triviaqa-dev.dpr.txt": ("dpr-qas", 8837),
        "official/xquad.en.json": ("squad", 1190),
        "nq.test.jsonl": ("dpr", 190),
    }
    found = {name: (sniff(data_dir / name), sum(1 for _ in read_examples(data_dir / name))) for name in wanted}
    assert found == wanted
    paragraphs = {example.positives[0].text for example in read_examples(data_dir / "official/xquad.en.json")}
    assert len(paragraphs) == 240


def test_the_real_corpora_are_recognised_as_passages(data_dir: Path) -> None:
    assert sniff(data_dir / "corpus.tsv") == "tsv"
    assert sniff(data_dir / "official/enwiki-sample.xml.bz2") == "mediawiki"


def test_the_page_of_formats_names_every_format_and_what_is_done_with_it(root: Path) -> None:
    page = (root / "docs" / "formats.md").read_text()
    rows = {row[0].strip(" `"): row for row in (line.split("|")[1:] for line in page.splitlines() if line[:3] == "| `")}
    documented = {name: (row[2].strip() == "yes", row[3].strip() == "yes") for name, row in rows.items()}
    done = {name: (known.reads, known.writes) for name, known in FORMATS.items() if known.kind != "passages"}
    assert documented == done
    passages = {name for name, known in FORMATS.items() if known.kind == "passages"}
    assert {name for name in passages if f"`{name}`" not in page} == set()
