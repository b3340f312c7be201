from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragkit.corpus import PassageStore, read_corpus, write_store
from ragkit.corpus.convert import ConvertJob, ConvertOptions, convert
from ragkit.corpus.formats import FORMATS, read_examples, read_qrels, read_run, write_examples
from ragkit.errors import FormatError, InputError
from ragkit.types import Example, Passage, ScoredPassage

PLAY = Passage("7", "Hamlet is a play\nby William Shakespeare.", "Hamlet")
PORK = Passage("8", "Ham is pork.", "Ham")
HAM = Passage("9", "West Ham is a club.", "Ham")
EXAMPLES = [
    Example("a", "who wrote hamlet", ("Shakespeare", "W. S."), positives=(PLAY,), hard_negatives=(PORK, HAM)),
    Example("b", "what is ham", ("pork",), positives=(PORK, HAM), target="pork"),
    Example("c", "why", ()),
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_examples(EXAMPLES, tmp_path / "source.jsonl", format="dpr")
    return tmp_path / "source.jsonl"


def test_the_summary_says_what_was_kept_and_what_the_format_cannot_hold(source: Path, tmp_path: Path) -> None:
    """Hard negatives that vanish without a word are missed only after the training."""
    report = convert(source, tmp_path / "out", to="nq-open")
    assert report.summary() == (
        "dpr -> nq-open: questions kept 3, answers kept 3; "
        "ids of questions dropped 3, positives dropped 3, hard negatives dropped 2: nq-open cannot hold them"
    )


def test_a_conversion_that_loses_nothing_says_so_by_silence(source: Path, tmp_path: Path) -> None:
    report = convert(source, tmp_path / "out", to="tevatron")
    assert report.summary() == (
        "dpr -> tevatron: questions kept 3, answers kept 3, positives kept 3, hard negatives kept 2"
    )


def test_questions_that_a_format_cannot_hold_are_counted_and_the_others_kept(source: Path, tmp_path: Path) -> None:
    report = convert(source, tmp_path / "out", to="squad")
    assert "questions kept 2" in report.summary()
    assert "questions dropped 1" in report.summary()
    assert [example.id for example in read_examples(tmp_path / "out")] == ["a", "b"]


@pytest.mark.parametrize("to", sorted(name for name, known in FORMATS.items() if known.write_with is not None))
def test_questions_go_into_every_format_and_what_comes_out_goes_into_every_other(
    source: Path, tmp_path: Path, to: str
) -> None:
    """For each pair of formats: what the first held is what the second reads, but for what the second cannot hold."""
    hold_first = FORMATS[to].hold
    assert hold_first is not None
    firsts = [kept for kept in map(hold_first, _full_examples()) if kept is not None]
    write_examples(_full_examples()[:2], source.parent / "full", format=to)
    for other, known in FORMATS.items():
        if known.write_with is None or known.hold is None:
            continue
        wanted = [kept for kept in map(known.hold, firsts) if kept is not None]
        if wanted:
            convert(source.parent / "full", tmp_path / f"to-{other}", to=other)
            assert list(read_examples(tmp_path / f"to-{other}", format=other)) == wanted
        else:
            with pytest.raises(InputError, match="nothing to write"):
                convert(source.parent / "full", tmp_path / f"to-{other}", to=other)


def _full_examples() -> list[Example]:
    hits = (ScoredPassage(PLAY, 2.5), ScoredPassage(PORK, -1.0))
    first = Example("a", "who wrote hamlet", ("REFUTES",), (PLAY,), (PORK, HAM), hits, target="REFUTES")
    return [first, Example("b", "what is ham", ("SUPPORTS",), (PORK,), (), hits[1:], target="SUPPORTS")]


def test_positives_become_judgements_and_hits_become_a_run(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "qrels", to="trec-qrels")
    assert read_qrels(tmp_path / "qrels") == {"a": {"7": 1}, "b": {"8": 1, "9": 1}}
    write_examples(_full_examples(), tmp_path / "results", format="fid")
    convert(tmp_path / "results", tmp_path / "run", to="trec-run")
    assert read_run(tmp_path / "run") == {"a": [("7", 2.5), ("8", -1.0)], "b": [("8", -1.0)]}
    convert(tmp_path / "run", tmp_path / "run3", to="tevatron-run")
    assert read_run(tmp_path / "run3") == read_run(tmp_path / "run")
    convert(tmp_path / "qrels", tmp_path / "beir.tsv", to="beir-qrels")
    assert (tmp_path / "beir.tsv").read_text().splitlines()[:2] == ["query-id\tcorpus-id\tscore", "a\t7\t1"]


def test_formats_that_do_not_fit_are_an_error_that_says_why(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "qrels", to="trec-qrels")
    with pytest.raises(InputError, match="is trec-qrels, which holds qrels; fid holds examples"):
        convert(tmp_path / "qrels", tmp_path / "out", to="fid")
    with pytest.raises(InputError, match="gives 3 questions but no retrieved passages"):
        convert(source, tmp_path / "out", to="trec-run")
    with pytest.raises(InputError, match="cannot write the format 'mss'; choose from"):
        convert(source, tmp_path / "out", to="mss")
    assert not (tmp_path / "out").exists()


def test_a_file_at_the_target_stays_unless_overwriting_is_asked_for(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("precious")
    with pytest.raises(InputError, match="out is there already; choose another name, or add overwrite=true"):
        convert(source, target, to="fid")
    assert target.read_text() == "precious"
    convert(source, target, to="fid", options=ConvertOptions(overwrite=True))
    assert [example.id for example in read_examples(target, format="fid")] == ["a", "b", "c"]
    with pytest.raises(InputError, match="is the source itself"):
        convert(source, source, to="fid", options=ConvertOptions(overwrite=True))


def test_a_conversion_that_fails_half_way_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    """Half a file under the right name would be taken for the whole one."""
    with source.open("a") as file:
        file.write('{"question": "cut o')
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FormatError, match="source.jsonl:4: not JSON"):
        convert(source, tmp_path / "out", to="fid")
    assert sorted(tmp_path.iterdir()) == before
    report = convert(source, tmp_path / "out", to="fid", options=ConvertOptions(on_error="skip"))
    assert "skipped 1 of 4 rows (" in report.summary()


@pytest.mark.parametrize(
    "to", ["jsonl", "tsv", "parquet", "beir-corpus", "flashrag-corpus", "tevatron-corpus", "store"]
)
def test_passages_go_from_a_store_to_every_format_and_back(tmp_path: Path, to: str) -> None:
    passages = [PORK, HAM, Passage("x y", 'He said "no"', "")]
    write_store(passages, tmp_path / "store")
    report = convert(tmp_path / "store", tmp_path / "there", to=to)
    assert report.summary() == f"store -> {to}: passages kept 3"
    convert(tmp_path / "there", tmp_path / "back", to="store")
    assert PassageStore.open(tmp_path / "back").digest == PassageStore.open(tmp_path / "store").digest
    assert list(read_corpus(tmp_path / "there")) == passages


def test_line_ends_that_a_line_of_tsv_cannot_hold_are_counted(tmp_path: Path) -> None:
    write_store([PLAY, PORK], tmp_path / "store")
    report = convert(tmp_path / "store", tmp_path / "out.tsv", to="tsv")
    assert report.summary() == (
        "store -> tsv: passages kept 2; line ends or tabs of passages dropped 1: tsv cannot hold them"
    )


def test_the_job_prints_one_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ConvertJob(source=source, target=tmp_path / "out.json", to="fid").run()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{tmp_path / 'out.json'}: dpr -> fid: questions kept 3")
    assert isinstance(json.loads((tmp_path / "out.json").read_text()), list)


def test_the_command_line_reaches_the_job(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ragkit.cli import main

    assert main(["convert", str(source), str(tmp_path / "out"), "--to", "kilt"]) == 0
    assert main(["convert", str(source), str(tmp_path / "out"), "--to", "kilt"]) == 2
    assert "out is there already" in capsys.readouterr().err


def test_real_trivia_questions_survive_a_tour_of_formats(data_dir: Path, tmp_path: Path) -> None:
    """8,837 questions with every quote and accent that there is."""
    first = path = data_dir / "official" / "triviaqa-dev.dpr.txt"
    for to in ("fid", "kilt", "dpr-qas"):
        convert(path, tmp_path / to, to=to)
        path = tmp_path / to
    before = {example.question: set(example.answers) for example in read_examples(first)}
    after = {example.question: set(example.answers) for example in read_examples(path)}
    assert len(before) > 8800
    assert before == after
