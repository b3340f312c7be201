"""The words of the command line, its exit codes and its messages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ragkit import cli


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_overview_has_an_example_for_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert all(f"ragkit {name}" in out for name in cli.COMMANDS)


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_the_help_of_a_command_shows_an_example_and_its_keys(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert cli.COMMANDS[name].examples[0] in out
    assert "out:" in out or name in {"ask", "convert"}


@pytest.mark.parametrize(("given", "wanted"), [(None, "32"), ("500", "500")])
def test_a_command_bounds_the_cache_of_kernels_unless_the_user_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, wanted: str
) -> None:
    """Without a bound a kernel is kept for every length of text: 0.7 GB of the demo's memory."""
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, given or "")  # so that the test's end restores what was there
    if given is None:
        monkeypatch.delenv(name)
    assert cli.main(["index", "corpus=sample", "retriever=bm25", f"out={tmp_path}/i"]) == 0
    assert os.environ[name] == wanted


def test_an_unknown_command_exits_with_2_and_lists_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["retrain"]) == 2
    assert "index, mine, train" in capsys.readouterr().err


def test_a_missing_value_is_one_message_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback through three libraries tells a user nothing."""
    assert cli.main(["index", "retriever=bm25"]) == 2
    err = capsys.readouterr().err
    assert "out: no value given; add out=VALUE" in err
    assert "Traceback" not in err


def test_a_file_that_is_not_there_is_the_users_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["index", f"corpus={tmp_path}/absent.tsv", "retriever=bm25", f"out={tmp_path}/i"]
    assert cli.main(words) == 2
    assert "absent.tsv" in capsys.readouterr().err


def test_cfg_job_prints_the_composed_config_and_builds_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["index", f"corpus={tmp_path}", f"out={tmp_path}/i", "retriever=bm25", "--cfg", "job"]) == 0
    assert f"out: {tmp_path}/i" in capsys.readouterr().out
    assert not (tmp_path / "i").exists()


def test_multirun_gives_every_run_a_folder_of_its_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Two runs that write to one folder leave the second one's files under the first one's name."""
    words = ["index", f"corpus={tmp_path}", f"out={tmp_path}/i", "retriever=bm25,rank_bm25", "-m", "--cfg", "job"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert f"out: {tmp_path}/i/0" in out
    assert f"out: {tmp_path}/i/1" in out


def test_a_question_may_hold_any_sign(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Hydra's grammar would choke on quotes, commas and brackets in a question."""
    question = 'who said "to be, or not to be" (in {Hamlet})? x=${y}'
    assert cli.main(["ask", question, f"index_dir={tmp_path}", "--cfg", "job"]) == 0
    assert "to be, or not to be" in capsys.readouterr().out


def test_completion_lists_commands_and_then_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--complete", "ragkit in"]) == 0
    assert capsys.readouterr().out.split() == ["index"]
    assert cli.main(["--complete", "ragkit index retriever=bm"]) == 0
    assert "retriever=bm25" in capsys.readouterr().out.split()


@pytest.mark.parametrize("words", [["convert", "--form", "x", "a", "b"], ["ask", "--k=5", "who"], ["train", "-x"]])
def test_an_unknown_option_is_not_taken_for_a_value(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`ragkit ask --k=5 ...` must not answer the question "--k=5"."""
    assert cli.main(words) == 2
    assert "unknown option '-" in capsys.readouterr().err


def test_a_flag_takes_its_value_after_a_space_or_an_equals_sign(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--to", "fid"], ["--to=fid"]):
        assert cli.main(["convert", "a.json", "b.jsonl", *words, "--cfg", "job"]) == 0
        assert "to: fid" in capsys.readouterr().out


def test_an_evaluation_keeps_its_configuration(tmp_path: Path) -> None:
    """Figures without the configuration that made them cannot be made again."""
    out = tmp_path / "eval"
    assert cli.main(["index", "corpus=sample", "retriever=bm25", f"out={tmp_path}/i"]) == 0
    assert cli.main(["eval", "data=sample/dev", f"index_dir={tmp_path}/i", "k=7", f"out={out}"]) == 0
    assert "k: 7" in (out / "config.yaml").read_text()
    assert cli.main(["eval", "data=sample/dev", f"index_dir={tmp_path}/i", "k=9", f"out={out}"]) == 2
    assert "k: 7" in (out / "config.yaml").read_text()
