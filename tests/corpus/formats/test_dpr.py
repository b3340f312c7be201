from __future__ import annotations

from pathlib import Path

import pytest

from ragkit.corpus.formats import read_examples
from ragkit.errors import FormatError


@pytest.mark.parametrize(
    "answers", ["__import__('os').system('touch pwned')", "[open('pwned', 'w')]", "['a'", "'a'", "[1]", "[" * 10_000]
)
def test_what_is_no_list_of_texts_is_an_error_and_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    """DPR calls ``eval`` on this column."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "qas"
    path.write_text(f"a question\t{answers}\n")
    with pytest.raises(FormatError, match="qas:1: wanted .* in 'answers"):
        list(read_examples(path, format="dpr-qas"))
    assert not (tmp_path / "pwned").exists()


def test_a_quote_that_nothing_closes_swallows_no_rows(tmp_path: Path) -> None:
    """The csv module reads this file as one row."""
    path = tmp_path / "qas"
    path.write_text("\"who said\t['a']\nwhat is 5\" long\t['b']\nwho\t['c']\n")
    assert [example.question for example in read_examples(path)] == ['"who said', 'what is 5" long', "who"]


def test_a_line_without_a_tab_is_named(tmp_path: Path) -> None:
    path = tmp_path / "qas"
    path.write_text("who\t['c']\nwhat ['b']\n")
    with pytest.raises(FormatError, match="qas:2: wanted a question, a TAB and a list of answers; there is no TAB"):
        list(read_examples(path))


def test_answers_with_a_backslash_warn_nobody(tmp_path: Path) -> None:
    """Python warns of an unknown escape in a literal; regular expressions as answers are full of them."""
    path = tmp_path / "qas"
    path.write_text("when\t['\\d+ BC']\n")
    assert next(read_examples(path)).answers == ("\\d+ BC",)


def test_simple_negatives_stand_in_only_where_there_are_no_hard_ones(tmp_path: Path) -> None:
    """As DPR trains: mixed in, random passages would dilute the hard ones."""
    path = tmp_path / "train"
    hard, simple = '[{"title": "h", "text": "hard"}]', '[{"title": "s", "text": "simple"}]'
    record = '{"question": "QUESTION", "answers": [], "positive_ctxs": [], "negative_ctxs": SIMPLE, '
    record = record.replace("SIMPLE", simple)
    path.write_text(
        record.replace("QUESTION", "a") + f'"hard_negative_ctxs": {hard}}}\n'
        + record.replace("QUESTION", "b") + '"hard_negative_ctxs": []}\n'
    )  # fmt: skip
    assert [example.hard_negatives[0].text for example in read_examples(path)] == ["hard", "simple"]
