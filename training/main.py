"""``ragkit train``: one job for every experiment."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragkit import distributed
from ragkit.device import resolve_device
from ragkit.errors import ConfigError

from .data import DataFiles
from .loop import train
from .policy import TrainPolicy
from .task import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainJob:
    """Train what an experiment names, into ``out``; the same command again resumes it.

    ``task(model, data=..., index_dir=...)`` makes the task; the model is ``retriever`` or ``reader``, whichever the
    experiment configures, or both (``task(retriever, reader, ..., out=...)``). An interrupted run has written a
    checkpoint and exits with 130 (SIGINT) or 143 (SIGTERM).
    """

    task: Callable[..., Task]
    policy: TrainPolicy
    out: Path
    data: DataFiles
    index_dir: Path | None = None
    retriever: Any = None
    reader: Any = None

    def run(self) -> None:
        """Train, or resume, to the end."""
        task = self._task()
        result = train(task, self.policy, self.out)
        if result.signal:
            raise SystemExit(128 + result.signal)
        figures = "  ".join(f"{name} {value:.4f}" for name, value in result.figures.items())
        log.info("trained %d steps (%d skipped) into %s  %s", result.steps, result.skipped, self.out, figures)

    def _task(self) -> Task:
        """The experiment's task, of both models where it takes both."""
        if {"retriever", "reader"} <= set(inspect.signature(self.task).parameters):
            self.out.mkdir(parents=True, exist_ok=True)
            # one process of several makes the run's index, so each must know which it is
            compute = self.policy.compute
            device = resolve_device(compute.device)
            distributed.start_processes(device, expected=compute.processes, timeout=compute.timeout)
            return self.task(self.retriever, self.reader, data=self.data, index_dir=self.index_dir, out=self.out)
        models = [model for model in (self.retriever, self.reader) if model is not None]
        if len(models) != 1:
            raise ConfigError(
                f"this experiment trains one model, the retriever or the reader; {len(models)} are configured "
                "(start from experiment=dpr, contriever or extractive; experiment=atlas takes both)"
            )
        self.out.mkdir(parents=True, exist_ok=True)
        return self.task(models[0], data=self.data, index_dir=self.index_dir)
