"""Generations made by another process, one after the other, while this one goes on."""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from ragkit.errors import RefreshFailed
from ragkit.refresh.generation import RefreshJob
from ragkit.refresh.make import Made
from ragkit.refresh.staleness import Sample

log = logging.getLogger(__name__)

_GRACE = 5.0  # seconds that a process has to end when asked, and to say why it ended
_TAIL = 2000  # characters of its log that a message shows


class WorkerDied(RefreshFailed):
    """The process ended without an answer; the same request may be given to another."""


@dataclass(frozen=True, slots=True)
class Request:
    """Make the generation that ``job`` has begun, on ``device``, with passages computed in ``dtype``.

    ``digest`` is that of the encoder that was put into the generation's folder. Process ``rank`` of ``world`` makes its
    share of the vectors; number 0 seals.
    """

    job: RefreshJob
    digest: str
    device: str
    dtype: str
    sample: Sample
    rank: int = 0
    world: int = 1

    def to_json(self) -> str:
        """One line of JSON."""
        found = asdict(self)
        found["job"]["index_dir"] = str(self.job.index_dir)
        return json.dumps(found)

    @classmethod
    def from_json(cls, line: str) -> Request:
        """What :meth:`to_json` gave."""
        data = json.loads(line)
        job = {**data["job"], "index_dir": Path(data["job"]["index_dir"])}
        sample = {**data["sample"], "queries": tuple(data["sample"]["queries"])}
        return cls(**{**data, "job": RefreshJob(**job), "sample": Sample(**sample)})


class Background:
    """A process of ``python -m ragkit.refresh.worker``: it ends with this one, however that ends.

    ``log_file`` takes what it prints. ``threads`` are torch's there (None: its default), ``nice`` lowers its priority.
    The first request starts it, unless :meth:`warm` has, which takes the seconds of importing torch.
    """

    def __init__(self, log_file: Path, *, threads: int | None = None, nice: int = 0) -> None:
        self.log_file, self._threads, self._nice = log_file, threads, nice
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def warm(self) -> None:
        """Start the process, if none is running."""
        if self._process is not None and self._process.poll() is not None:
            log.warning("%s; it was idle, another takes its place", self._death())
            self._process = None
        if self._process is None:
            self._start()

    def submit(self, request: Request) -> None:
        """Hand over a request; one at a time."""
        self.warm()
        try:
            _pipe(self._process, "stdin").write(request.to_json() + "\n")
            _pipe(self._process, "stdin").flush()
        except BrokenPipeError as error:
            raise self._death() from error

    def poll(self) -> Made | None:
        """The answer, or None while there is none yet.

        Raises:
            WorkerDied: the process ended before it had answered.
            RefreshFailed: the generation could not be made; the message says why.
        """
        try:
            return self._made(self._answers.get_nowait())
        except queue.Empty:
            return None

    def wait(self) -> Made:
        """The answer, when it is there; raises as :meth:`poll` does."""
        return self._made(self._answers.get())

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    def _start(self) -> None:
        self._answers = queue.SimpleQueue()
        environment = dict(os.environ)
        if self._threads is not None:
            environment["OMP_NUM_THREADS"] = str(self._threads)
        # the death of the thread that starts it counts as the parent's (PR_SET_PDEATHSIG): here the training thread
        with self.log_file.open("w", encoding="utf-8") as log_file:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ragkit.refresh.worker", str(os.getpid()), str(self._nice)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                text=True,
                env=environment,
                start_new_session=True,  # a Ctrl-C is for the trainer, which may still want the generation
            )
        answers = _pipe(self._process, "stdout")
        threading.Thread(target=_collect, args=(answers, self._answers), daemon=True).start()
        weakref.finalize(self, _end, self._process)

    def _made(self, line: str | None) -> Made:
        if line is None:
            raise self._death()
        answer: Mapping[str, Any] = json.loads(line)
        if "error" in answer:
            raise RefreshFailed(f"the background refresh failed, the index is as it was: {answer['error']}")
        return Made.from_json(answer)

    def _death(self) -> WorkerDied:
        code: int | str = "unknown"
        if self._process is not None:
            code = self._process.wait(timeout=_GRACE)
        tail = self.log_file.read_text(encoding="utf-8", errors="replace")[-_TAIL:].strip()
        reason = f"killed by signal {-code}" if isinstance(code, int) and code < 0 else f"exit code {code}"
        return WorkerDied(
            f"the process that refreshes the index ended ({reason}); the live generation is as it was. Its log, "
            f"{self.log_file}, ends with:\n{tail or '(nothing)'}"
        )


def _collect(lines: TextIOWrapper, answers: queue.SimpleQueue[str | None]) -> None:
    """Every line into the queue, then None: the process has ended."""
    with lines:
        for line in lines:
            answers.put(line)
    answers.put(None)


def _pipe(process: subprocess.Popen[str] | None, name: str) -> TextIOWrapper:
    found = getattr(process, name)
    if found is None:
        raise ValueError(f"the process was started without a pipe for {name}")
    pipe: TextIOWrapper = found
    return pipe


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()  # what it leaves unfinished is deleted, or gone on with, by the next refresh
        process.wait(timeout=_GRACE)
    stdin = _pipe(process, "stdin")
    if not stdin.closed:
        stdin.close()
