"""The handle on the process that makes generations, with scripts in the place of that process."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from ragkit.errors import RefreshFailed
from ragkit.refresh import Made, Overlaps, RefreshJob, Sample
from ragkit.refresh.background import Background, Request, WorkerDied

REQUEST = Request(RefreshJob(Path("index"), 7, "hot"), "abc", "cpu", "float32", Sample(("a", "b")), rank=1, world=2)
MADE = '{"generation": 2, "encoded": 3, "seconds": 0.5, "overlaps": {"before": 0.5, "previous": null, "after": 1.0}}'


def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Background:
    """A background whose process is a shell script."""
    program = tmp_path / "worker.sh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return Background(tmp_path / "log", threads=1)


def test_a_request_is_one_line_and_comes_back_as_it_was() -> None:
    assert "\n" not in REQUEST.to_json()
    assert Request.from_json(REQUEST.to_json()) == REQUEST


def test_answers_come_one_for_each_request_and_polling_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    background = pretend(tmp_path, monkeypatch, f"while read -r line; do sleep 0.2; echo '{MADE}'; done")
    for _ in range(2):
        background.submit(REQUEST)
        assert background.poll() is None
        assert background.wait() == Made(2, 3, 0.5, Overlaps(0.5, None, 1.0))
    background.close()
    background.close()


def test_the_workers_errors_are_raised_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    background = pretend(tmp_path, monkeypatch, """read -r line; echo '{"error": "the disk is full"}'; read -r line""")
    background.submit(REQUEST)
    with pytest.raises(RefreshFailed, match="index is as it was: the disk is full"):
        background.wait()
    background.close()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("read -r line; echo oh dear >&2; exit 3", r"\(exit code 3\)"),
        ("read -r line; kill -9 $$", "killed by signal 9"),
    ],
)
def test_a_death_says_how_and_shows_the_end_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    background = pretend(tmp_path, monkeypatch, script)
    background.submit(REQUEST)
    with pytest.raises(WorkerDied, match=reason) as death:
        background.wait()
    assert ("oh dear" if "dear" in script else "(nothing)") in str(death.value)
    background.close()


def test_one_that_died_idle_is_replaced_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    once = f"read -r line; echo '{MADE}'; exit 0"
    background = pretend(tmp_path, monkeypatch, once)
    for _ in range(2):
        background.submit(REQUEST)
        background.wait()
        process = background._process
        assert process is not None
        process.wait(timeout=10)
    assert "it was idle" in caplog.text
    background.close()


def test_closing_ends_a_process_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    background = pretend(tmp_path, monkeypatch, "exec sleep 60")
    background.submit(REQUEST)
    process, started = background._process, time.monotonic()
    background.close()
    assert process is not None
    assert process.poll() == -9
    assert time.monotonic() - started < 5
