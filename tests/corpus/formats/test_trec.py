from __future__ import annotations

from pathlib import Path

import pytest

from ragkit.corpus.formats import read_qrels, read_run, write_qrels, write_run
from ragkit.errors import FormatError, InputError


def test_a_run_is_sorted_by_score_and_not_by_rank(tmp_path: Path) -> None:
    """Some tools write ranks from 0, or all 1: only the score orders a run."""
    (tmp_path / "run").write_text("q1 Q0 a 1 0.5 x\nq1 Q0 b 1 2.5 x\r\nq2\tQ0\tc\t0\t-1e-3\tx\n\nq1 Q0 c 3 0.5 x")
    assert read_run(tmp_path / "run") == {"q1": [("b", 2.5), ("a", 0.5), ("c", 0.5)], "q2": [("c", -0.001)]}


def test_a_written_run_has_six_columns_and_ranks_from_1(tmp_path: Path) -> None:
    write_run({"q": [("a", 2.0), ("b", 0.1)]}, tmp_path / "run", tag="bm25")
    assert (tmp_path / "run").read_text() == "q Q0 a 1 2.0 bm25\nq Q0 b 2 0.1 bm25\n"


def test_another_library_reads_the_run_and_the_judgements(tmp_path: Path) -> None:
    import ir_measures
    from ir_measures import RR

    write_run({"q": [("a", 2.0), ("b", 1.0)], "r": [("b", 3.0)]}, tmp_path / "run")
    write_qrels({"q": {"b": 1}, "r": {"b": 1}}, tmp_path / "qrels")
    qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "qrels")))  # type: ignore[no-untyped-call]
    run = list(ir_measures.read_trec_run(str(tmp_path / "run")))  # type: ignore[no-untyped-call]
    assert ir_measures.calc_aggregate([RR], qrels, run)[RR] == 0.75


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("q Q0 a 1 2.0\n", "run:1: wanted 6 or 3 columns, got 5"),
        ("q Q0 a 1 2.0 x\nq Q0 b 2 high x\n", "run:2: wanted a finite number as score, got 'high'"),
        ("q Q0 a 1 nan x\n", "run:1: wanted a finite number as score, got 'nan'"),
        ("q Q0 a 1 2.0 x\nq Q0 a 2 1.0 x\n", "run:2: the passage 'a' comes twice for query 'q'"),
    ],
)
def test_a_faulty_run_is_named_by_line(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "run").write_text(content)
    with pytest.raises(FormatError, match=reason):
        read_run(tmp_path / "run")


def test_faulty_judgements_are_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("q 0 a 1\nq 0 a 0\n")
    with pytest.raises(FormatError, match="qrels:2: the passage 'a' is judged twice for query 'q'"):
        read_qrels(tmp_path / "qrels")
    (tmp_path / "qrels").write_text("q 0 a 0.5\n")
    with pytest.raises(FormatError, match="qrels:1: wanted a whole number as relevance, got '0.5'"):
        read_qrels(tmp_path / "qrels")


@pytest.mark.parametrize("odd", ["two words", "", "tab\there", "end\n"])
def test_an_id_that_columns_cannot_hold_is_refused(tmp_path: Path, odd: str) -> None:
    """Written as it is, it would shift every column after it."""
    with pytest.raises(InputError, match="is empty or has white space"):
        write_run({"q": [(odd, 1.0)]}, tmp_path / "run")
    with pytest.raises(InputError, match="is empty or has white space"):
        write_qrels({odd: {"a": 1}}, tmp_path / "qrels")
    assert not list(tmp_path.iterdir())


def test_a_missing_hit_is_not_written_as_a_score(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="score is not finite; leave missing hits out"):
        write_run({"q": [("a", float("-inf"))]}, tmp_path / "run")
