"""The table and the curves of learn_from_answers.py."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table


def figures(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, by method, and by kind and method for what is not plain."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["kind"], result["method"]), []).append(result)
    made: dict[str, Any] = {}
    for (kind, method), group in groups.items():
        ends = [result["curve"][-1][1] for result in group]
        found = {
            "start": float(np.mean([result["curve"][0][1] for result in group])),
            "end": float(np.mean(ends)),
            "lowest": min(ends),
            "highest": max(ends),
            "peak": max(share for result in group for _, share in result["curve"][1:]),  # after any update, of any seed
            "seeds": len(group),
            "seconds": float(np.mean([result["seconds"] for result in group])),
            "cpu_seconds": float(np.mean([result["cpu_seconds"] for result in group])),
        }
        (made if kind == "plain" else made.setdefault(kind, {}))[method] = found
    return made


def report(figures: dict[str, Any], *, title: str) -> None:
    """Print a line a kind and method."""
    table = Table(title=title)
    for heading in ("run", "start", "end", "lowest", "highest", "peak", "seeds", "CPU s"):
        table.add_column(heading, justify="left" if heading == "run" else "right")
    rows = {name: found for name, found in figures.items() if "start" in found}
    rows |= {
        f"{kind}: {name}": found for kind, group in figures.items() if kind not in rows for name, found in group.items()
    }
    for name, found in rows.items():
        numbers = [f"{found[key]:.3f}" for key in ("start", "end", "lowest", "highest", "peak")]
        table.add_row(name, *numbers, str(found["seeds"]), f"{found['cpu_seconds']:.0f}")
    Console(width=120).print(table)


def plot(results: Sequence[dict[str, Any]], path: Path, *, methods: Sequence[str]) -> None:
    """The share found against updates: a panel a kind, a colour a method, a line a seed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    kinds = list(dict.fromkeys(result["kind"] for result in results))
    columns = min(len(kinds), 3)
    lines = -(-len(kinds) // columns)
    size = (3.6 * columns, 3.0 * lines)
    figure, panels = pyplot.subplots(lines, columns, figsize=size, sharey=True, squeeze=False, layout="constrained")
    for panel, kind in zip(panels.flat, kinds, strict=False):
        for place, method in enumerate(methods):
            curves = [result["curve"] for result in results if (result["kind"], result["method"]) == (kind, method)]
            for number, curve in enumerate(curves):
                panel.plot(*zip(*curve, strict=True), color=f"C{place}", alpha=0.8, label=None if number else method)
        panel.set(title=kind.replace("_", " "), xlabel="updates", ylim=(0, 1.02))
        panel.legend(fontsize="small")
    for panel in panels.flat[len(kinds) :]:
        panel.set_axis_off()
    for line in panels:
        line[0].set_ylabel("found, unseen entities")
    figure.savefig(path)
    pyplot.close(figure)


def machine(threads: int) -> str:
    """What a run's figures and times depend on besides its options."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "ragkit"))
    return f"{platform.machine()}, {os.cpu_count()} CPUs, {threads} torch threads; {packages}"
