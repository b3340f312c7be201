"""A progress bar on standard error for whatever takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")

_PATIENCE = 2.0  # seconds of silence: shorter work shows nothing
_LOG_EVERY = 30.0  # seconds between lines where standard error is not a terminal


def progress(items: Iterable[T], *, description: str, total: int | None = None) -> Iterator[T]:
    """The same items; after two seconds a bar (on a terminal) or a line every 30 seconds (in a log) says how far it is.

    ``total`` counts items; it is taken from ``len(items)`` where the items know it.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    console = Console(stderr=True)
    if console.is_terminal:
        yield from _with_bar(items, description=description, total=total, console=console)
    else:
        yield from _with_lines(items, description=description, total=total)


def _with_bar(items: Iterable[T], *, description: str, total: int | None, console: Console) -> Iterator[T]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
    task = bar.add_task(description, total=total)
    started, is_shown = time.monotonic(), False
    try:
        for item in items:
            yield item
            bar.advance(task)
            if not is_shown and time.monotonic() - started > _PATIENCE:
                bar.start()
                is_shown = True
    finally:
        if is_shown:
            bar.stop()


def _with_lines(items: Iterable[T], *, description: str, total: int | None) -> Iterator[T]:
    started = last = time.monotonic()
    out_of = f" of {total}" if total is not None else ""
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last > _LOG_EVERY:
            last = now
            print(f"{description}: {done}{out_of}, {now - started:.0f} s", file=sys.stderr, flush=True)  # noqa: T201  a log wants lines
