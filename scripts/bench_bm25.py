"""Queries a second of ``retriever=bm25`` against bm25s called directly and against rank-bm25, in one run.

All three get the same questions, the same analysis (English stems and stop words), k1 0.9, b 0.4, the same k, one
thread, and are timed in turn, several times. bm25s runs on our saved index with its numba backend, memory-mapped;
rank-bm25 gets only the first questions, as it needs tenths of a second for each.

    python scripts/bench_bm25.py --data ../shared/data --quick --json bench_bm25.json
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import bm25s
import numpy as np
from rank_bm25 import BM25Okapi
from rich.console import Console
from rich.table import Table

from ragkit.corpus import PassageStore, write_store
from ragkit.retriever.bm25 import BM25
from ragkit.types import Passage

K = 100
Contestant = tuple[int, Callable[[], np.ndarray]]  # how many questions a call answers, and the call
ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 2 where there is no data."""
    options = _options(arguments)
    if not (options.data / "corpus.tsv").is_file():
        print(f"no corpus.tsv in {options.data}; give the folder of the data with --data", file=sys.stderr)
        return 2
    n_slow, repeats = (10, 3) if options.quick else (40, 5)
    questions = _questions(options.data, limit=400 if options.quick else 2000)
    with tempfile.TemporaryDirectory() as scratch:
        store = write_store(_passages(options.data / "corpus.tsv"), Path(scratch) / "corpus")
        contestants = _contestants(store, Path(scratch) / "bm25", questions, n_slow=n_slow)
        speeds = _race(contestants, repeats=repeats)
    figures = _figures(speeds) | {"n_passages": len(store), "n_questions": len(questions), "k": K, "repeats": repeats}
    _report(speeds, figures)
    if options.json:
        options.json.write_text(json.dumps(figures | {"machine": _machine()}, indent=2) + "\n", encoding="utf-8")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("RAGKIT_TEST_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default), help="folder with corpus.tsv and nq.*.jsonl")
    parser.add_argument("--quick", action="store_true", help="fewer questions and repeats, under two minutes")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args(arguments)


def _passages(path: Path) -> list[Passage]:
    with path.open(newline="", encoding="utf-8") as lines:
        records = csv.reader(lines, delimiter="\t")
        next(records)
        return [Passage(id=record[0], text=record[1], title=record[2]) for record in records]


def _questions(folder: Path, *, limit: int) -> list[str]:
    names = ("nq.test.jsonl", "nq.dev.jsonl", "nq.train.jsonl")
    lines = [line for name in names for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    return [json.loads(line)["question"] for line in lines[:limit]]


def _contestants(store: PassageStore, folder: Path, questions: list[str], *, n_slow: int) -> dict[str, Contestant]:
    """The contestants by name; a call returns the scores it found."""
    BM25().fit(store).save(folder)
    ours = BM25.load(folder)
    terms = ours.analyzer.terms
    direct = bm25s.BM25.load(folder, mmap=True, show_progress=False)
    okapi = BM25Okapi([ours.analyzer.passage_terms(p) for batch in store.batches(1024) for p in batch], k1=0.9, b=0.4)
    ready = [terms(question) for question in questions]

    def bm25s_scores(tokens: list[list[str]]) -> np.ndarray:
        return np.asarray(direct.retrieve(tokens, k=K, show_progress=False, backend_selection="numba").scores)

    def okapi_scores() -> np.ndarray:
        totals = [okapi.get_scores(terms(question)) for question in questions[:n_slow]]
        return np.stack([np.sort(total)[::-1][:K] for total in totals])

    contestants: dict[str, Contestant] = {
        "ragkit bm25": (len(questions), lambda: ours.search(questions, k=K).scores),
        "bm25s": (len(questions), lambda: bm25s_scores([terms(question) for question in questions])),
        "bm25s, terms ready": (len(questions), lambda: bm25s_scores(ready)),
        "rank-bm25": (n_slow, okapi_scores),
    }
    ours_found, direct_found = (contestants[name][1]() for name in ("ragkit bm25", "bm25s"))  # also compiles both
    if not np.allclose(np.where(np.isneginf(ours_found), 0, ours_found), direct_found, rtol=1e-5):
        raise SystemExit("ragkit and bm25s found different scores: their speeds do not compare")
    return contestants


def _race(contestants: dict[str, Contestant], *, repeats: int) -> dict[str, list[float]]:
    """Queries a second of each contestant in each round; the fast ones run ten times a round, in turn."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for turn in range(10):
            for name, (n_questions, run) in contestants.items():
                if name == "rank-bm25" and turn:
                    continue
                started = time.perf_counter()
                run()
                speeds[name].append(n_questions / (time.perf_counter() - started))
    return speeds


def _figures(speeds: dict[str, list[float]]) -> dict[str, float]:
    ours = median(speeds["ragkit bm25"])
    return {
        "vs_rank_bm25": round(ours / median(speeds["rank-bm25"]), 1),
        "vs_bm25s": round(ours / median(speeds["bm25s"]), 3),
        "vs_bm25s_terms_ready": round(ours / median(speeds["bm25s, terms ready"]), 3),
        "queries_per_second": round(ours, 1),
    }


def _report(speeds: dict[str, list[float]], figures: dict[str, float]) -> None:
    about = f"{figures['n_passages']} passages, {figures['n_questions']} questions, k {K}, one thread"
    table = Table("", "queries/s (median)", "lowest", "highest", "ragkit is faster by", title=about)
    for name, values in speeds.items():
        ratio = median(speeds["ragkit bm25"]) / median(values)
        table.add_row(name, *(f"{value:,.1f}" for value in (median(values), min(values), max(values))), f"{ratio:.2f}")
    console = Console()
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in _machine().items()))


def _machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    versions = {name: version(name) for name in ("bm25s", "rank-bm25", "numba", "numpy")}
    numbers = {"cores": os.cpu_count() or 0, "threads": 1}
    return {"cpu": model, "python": platform.python_version()} | versions | numbers


if __name__ == "__main__":
    sys.exit(main())
