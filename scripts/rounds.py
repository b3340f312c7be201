"""What the parts of bench_fid.py share: the clocks, the machine, ratios within a round, real questions."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ragkit import sample
from ragkit.corpus.formats.examples import read_examples
from ragkit.device import cpu_flags
from ragkit.types import Example

DATA = Path(os.environ.get("RAGKIT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
N_PASSAGES = 10
Figures = dict[str, Any]


def machine() -> Figures:
    """What the figures depend on."""
    features = sorted({"avx2", "avx512f", "avx512_bf16", "amx_bf16"} & cpu_flags())
    return {
        "processor": f"{platform.machine()} {' '.join(features)}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }


def ratios(slow: Sequence[float], fast: Sequence[float], name: str) -> Figures:
    """The median of slow over fast within a round, and the lowest and highest."""
    found = [a / b for a, b in zip(slow, fast, strict=True)]
    return {
        name: round(statistics.median(found), 3),
        f"{name}_range": [round(min(found), 3), round(max(found), 3)],
        f"{name}_rounds": len(found),
    }


def read_questions(count: int) -> tuple[list[Example], str]:
    """Real questions with 10 passages each: their own (gold, then BM25's negatives), then those of the next ones."""
    file = DATA / "nq.test.jsonl"
    path = file if file.is_file() else sample.questions_path("test")
    examples = list(read_examples(path))
    pool = [passage for example in examples for passage in (*example.positives, *example.hard_negatives)]
    found = []
    for row, example in enumerate(examples[:count]):
        own = [*example.positives, *example.hard_negatives]
        more = [passage for passage in pool[8 * (row + 1) :] if passage not in own]
        found.append(
            Example(example.id, example.question, example.answers, positives=tuple([*own, *more][:N_PASSAGES]))
        )
    return found, path.name
