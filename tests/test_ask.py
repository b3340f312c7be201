"""The ask command prints the answer and where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragkit import ask, cli
from ragkit.ask import AskJob, snippet
from ragkit.corpus import write_store
from ragkit.errors import InputError
from ragkit.pipeline import RetrieveThenRead
from ragkit.types import Passage

from .test_pipeline import PASSAGES, FirstWordReader, WordRetriever


@pytest.fixture
def index_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An index directory whose opening is replaced: which retriever there is does not matter here."""
    store = write_store(iter([*PASSAGES[:2], Passage("9", "[bold]who[/bold] wrote hamlet", "")]), tmp_path / "corpus")

    def opened(_index_dir: object, reader: object = None, *, device: str = "auto") -> RetrieveThenRead:
        assert device == "cpu"
        return RetrieveThenRead(WordRetriever(store.digest), store, reader=reader)

    monkeypatch.setattr(ask, "load", opened)
    return str(tmp_path)


def test_the_answer_stands_before_its_evidence(index_dir: str, capsys: pytest.CaptureFixture[str]):
    AskJob("is rome old or paris", index_dir, FirstWordReader(), device="cpu").run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rome   score -0.50, 2 passages read"
    assert lines[1].split() == ["contribution", "retriever", "passage"]
    assert lines[2].split() == ["0.500", "3.000", "T0"]
    assert lines[3].strip() == "rome is old"
    assert lines[4].split() == ["0.500", "1.000", "T1"]


def test_brackets_in_a_passage_are_printed_as_they_are(index_dir: str, capsys: pytest.CaptureFixture[str]):
    """Guards against a passage's text read as the printer's markup, which would swallow it."""
    AskJob("wrote hamlet", index_dir, device="cpu").run()
    assert "[bold]who[/bold] wrote hamlet" in capsys.readouterr().out


def test_without_a_reader_the_passages_are_printed(index_dir: str, capsys: pytest.CaptureFixture[str]):
    AskJob("paris rome", index_dir, shown=1, device="cpu").run()
    out = capsys.readouterr().out
    assert "contribution" not in out
    assert "rome is old" in out
    assert "T1" not in out  # one is shown


def test_nothing_found_is_said(index_dir: str, capsys: pytest.CaptureFixture[str]):
    AskJob("xyzzy", index_dir, FirstWordReader(), device="cpu").run()
    assert capsys.readouterr().out == "no passage of the index matches this question\n"


@pytest.mark.parametrize(
    ("job", "message"),
    [({"question": " "}, "the question is empty"), ({"shown": 0}, "shown is 0"), ({"k": 0}, "k is 0")],
)
def test_bad_values_are_refused(index_dir: str, job: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        AskJob(**{"question": "rome", "index_dir": index_dir, "device": "cpu", **job}).run()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["index_dir={dir}"], "question"),
        (["", "index_dir={dir}"], "the question is empty"),
        (["who wrote hamlet", "index_dir={dir}/absent"], "absent"),
        (["who wrote hamlet", "index_dir={dir}", "reader={dir}/absent"], "no model at '{dir}/absent'"),
        (["who wrote hamlet", "index_dir={dir}", "reader={dir}"], "holds no reader"),
    ],
)
def test_the_command_ends_with_two_and_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
):
    assert cli.main(["ask", *(word.format(dir=tmp_path) for word in words)]) == 2
    shown = capsys.readouterr().err
    assert message.format(dir=tmp_path) in shown
    assert "Traceback" not in shown


def test_a_snippet_keeps_the_answer_whole_and_cuts_between_words():
    text = " ".join(f"word{number}" for number in range(200))
    shown = snippet(text, "word150 word151")
    assert "word150 word151" in shown
    assert shown.startswith("... word")
    assert shown.endswith(" ...")
    assert len(shown) < 280
    assert set(shown.strip(". ").split()) <= set(text.split())
    assert snippet(text, "").startswith("word0 ")
    assert snippet("short", "absent") == "short"
