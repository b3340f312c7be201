"""Queries a second of a flat index: ragkit (its BLAS threshold, exact scores and ties) against FAISS as shipped.

FAISS 1.15 sums without BLAS until queries x dim reaches 128,000 in one call; ragkit lowers that around its own
searches. Both search the same file, in turn, several times; the best round of each counts. The hits are compared.

    python scripts/bench_search.py --quick --json bench_search.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from rich.console import Console
from rich.table import Table

from ragkit.index import IndexSpec, write_index

K = 20
BATCHES = (1, 16, 64)
DIM = 384
ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 where the two find different passages."""
    options = _options(arguments)
    faiss.omp_set_num_threads(options.threads)
    vectors = _vectors(options.data, limit=options.rows)
    figures: dict[str, Any] = {"n_vectors": len(vectors), "dim": vectors.shape[1], "k": K}
    rows, agreement = [], []
    with tempfile.TemporaryDirectory() as scratch:
        ours = write_index(vectors, IndexSpec(), Path(scratch) / "index")
        theirs = faiss.read_index(str(ours.folder / "index.faiss"))
        for batch in BATCHES:
            # noise, so that a query is not itself a passage
            picked = vectors[:: len(vectors) // batch][:batch]
            noise = np.random.default_rng(batch).standard_normal(picked.shape)
            queries = (picked + np.float32(0.02) * noise).astype(np.float32)
            found, wanted = ours.search(queries, K).rows, theirs.search(queries, K)[1]
            agreement.append(np.mean([len(set(a) & set(b)) / K for a, b in zip(found, wanted, strict=True)]))
            speeds = _race(
                [lambda q=queries: ours.search(q, K), lambda q=queries: theirs.search(q, K)],  # type: ignore[misc]
                n_queries=batch,
                seconds=1.0 if options.quick else 5.0,
            )
            rows.append((batch, *speeds))
            figures |= {
                f"ragkit_qps_{batch}": speeds[0],
                f"faiss_qps_{batch}": speeds[1],
                f"vs_faiss_{batch}": speeds[0] / speeds[1],
            }
    figures["overlap_with_faiss"] = float(min(agreement))
    _report(rows, figures)
    if options.json:
        options.json.write_text(json.dumps(figures | {"machine": _machine()}, indent=2) + "\n", encoding="utf-8")
    return 0 if figures["overlap_with_faiss"] > 0.999 else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("RAGKIT_TEST_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default), help="folder with minilm/vectors.npy, if any")
    parser.add_argument("--rows", type=int, default=70_000, help="vectors to search in")
    parser.add_argument("--threads", type=int, default=1, help="threads of FAISS")
    parser.add_argument("--quick", action="store_true", help="shorter rounds, under two minutes")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args(arguments)


def _vectors(folder: Path, *, limit: int) -> np.ndarray:
    """Real MiniLM vectors where there are some, else random ones of length 1."""
    path = folder / "minilm" / "vectors.npy"
    if path.is_file():
        return np.load(path, mmap_mode="r")[:limit].astype(np.float32)
    made = np.random.default_rng(0).standard_normal((limit, DIM)).astype(np.float32)
    unit: np.ndarray = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


def _race(runs: list[Callable[[], object]], *, n_queries: int, seconds: float) -> list[float]:
    """Queries a second of each in its best round; five rounds, in turn."""
    best = [0.0] * len(runs)
    for _ in range(5):
        for number, run in enumerate(runs):
            calls, started = 0, time.perf_counter()
            while time.perf_counter() - started < seconds / 5:
                run()
                calls += 1
            best[number] = max(best[number], calls * n_queries / (time.perf_counter() - started))
    return best


def _report(rows: list[tuple[Any, ...]], figures: dict[str, Any]) -> None:
    table = Table(title=f"flat index, {figures['n_vectors']:,} x {figures['dim']}, k={K}; " + _machine())
    for heading in ("queries in a call", "ragkit q/s", "FAISS as shipped q/s", "ratio"):
        table.add_column(heading, justify="right")
    for batch, ours, theirs in rows:
        table.add_row(str(batch), f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.2f}")
    Console(width=120).print(table)
    print(f"hits shared with FAISS, worst batch: {figures['overlap_with_faiss']:.4f}")


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("faiss-cpu", "numpy", "ragkit"))
    return f"{platform.machine()}, {os.cpu_count()} CPUs, {faiss.omp_get_max_threads()} FAISS threads; {packages}"


if __name__ == "__main__":
    sys.exit(main())
