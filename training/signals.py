"""SIGINT and SIGTERM as a wish to stop after the step at hand."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class Stop:
    """The number of the signal that came, 0 for none."""

    signal: int = 0


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """A :class:`Stop` that SIGINT or SIGTERM fills in inside the block; a second signal acts at once, as usual."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to the main thread only
        yield stop
        return
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _frame: FrameType | None) -> None:
        stop.signal = number
        signal.signal(number, usual[signal.Signals(number)])

    for number in usual:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
