"""The tables of ``ragkit eval``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ragkit.metrics import Interval

from .compare import Comparison

_SURE = 0.05


def print_evaluation(
    found: Mapping[str, Interval], about: Mapping[str, Any], *, notes: Sequence[str], out: Path
) -> None:
    """A line a metric: its mean, its interval, and over how many questions."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    for column in ("value", "95 % interval", "questions"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, interval in found.items():
        table.add_row(name, f"{interval.value:.3f}", f"{interval.low:.3f} to {interval.high:.3f}", str(interval.n))
    console = Console()
    title = f"{about['data']} against {' + '.join(about['index_dir'])}, {about['n']} questions"
    console.print(Text(title), soft_wrap=True)
    console.print(table)
    speeds = [f"{about['retrieval_questions_per_second']:,.1f} questions/s searched"]
    if "reader_questions_per_second" in about:
        speeds.append(f"{about['reader_questions_per_second']:,.1f} questions/s read")
    for line in (", ".join(speeds), *(f"note: {note}" for note in notes), f"written to {out}"):
        console.print(Text(line), soft_wrap=True)


def print_comparison(a: Path, b: Path, comparison: Mapping[str, Comparison]) -> None:
    """A line a metric: both means, their difference with its interval, and p; a clear one is marked with *."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)  # fits into 80 columns
    table.add_column("metric", no_wrap=True)
    for column in ("A", "B", "A - B (95 % interval)", "p", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, test in comparison.items():
        difference = f"{test.difference:+.3f} ({test.low:+.3f} to {test.high:+.3f})"
        p = f"{test.p:.4f}{'*' if test.p < _SURE else ' '}"
        table.add_row(name, f"{test.a:.3f}", f"{test.b:.3f}", difference, p, str(test.n))
    console = Console()
    console.print(Text(f"A = {a}\nB = {b}"), soft_wrap=True)
    console.print(table)
    console.print(f"* p < {_SURE}: paired permutation test, each metric alone")
