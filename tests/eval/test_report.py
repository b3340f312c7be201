"""The printed tables."""

from __future__ import annotations

from pathlib import Path

from ragkit.eval.compare import Comparison
from ragkit.eval.report import print_comparison, print_evaluation
from ragkit.metrics import Interval


def test_the_table_shows_figures_notes_and_where_they_are(capsys):
    """Markup in a file name ("[bold]") must be printed, not obeyed; a note that is not shown is not known."""
    about = {"data": "nq[bold].jsonl", "index_dir": ["a", "b"], "n": 3, "retrieval_questions_per_second": 1234.5}
    print_evaluation({"hit@1": Interval(0.5, 0.25, 0.75, 3)}, about, notes=["one is odd"], out=Path("out"))
    text = capsys.readouterr().out
    for part in ("nq[bold].jsonl", "a + b", "hit@1", "0.500", "0.250 to 0.750", "1,234.5", "note: one is odd", "out"):
        assert part in text


def test_a_comparison_marks_what_is_clear(capsys):
    """The mark is of p, not of the difference."""
    tests = {
        "hit@1": Comparison(0.9, 0.5, 0.4, 0.2, 0.6, 0.001, 10),
        "f1": Comparison(0.9, 0.1, 0.8, -0.1, 0.9, 0.2, 4),
    }
    print_comparison(Path("first"), Path("second"), tests)
    lines = capsys.readouterr().out.splitlines()
    assert any("hit@1" in line and "0.0010*" in line and "+0.400" in line for line in lines)
    assert any("f1" in line and "0.2000 " in line for line in lines)
    assert any("A = first" in line for line in lines)


def test_tables_fit_into_80_columns(capsys, monkeypatch):
    """A narrow terminal, or a log, would show "0.5..." in place of every figure."""
    monkeypatch.setenv("COLUMNS", "80")
    test = Comparison(0.942, 0.537, -0.405, -0.474, -0.337, 0.0001, 3610)
    print_comparison(Path("/a/long/path/to/a/run" * 5), Path("b"), {"hit_substring@100": test})
    about = {"data": "d" * 90, "index_dir": ["i" * 90], "n": 3610, "retrieval_questions_per_second": 1.0}
    print_evaluation({"hit_substring@100": Interval(0.5, 0.25, 0.75, 3610)}, about, notes=[], out=Path("out"))
    text = capsys.readouterr().out
    assert "…" not in text
    for figure in ("0.942", "0.537", "-0.405 (-0.474 to -0.337)", "0.0001*", "3610", "0.250 to 0.750"):
        assert figure in text
