"""What keeping the index fresh costs a training run: no refresh, sync, and async, on generated passages.

    python scripts/bench_refresh.py [--quick] [--json FILE] [--steps N] [--passages N]

A small dual encoder is trained on the hits of its live index, one thread for training and one for the background
process. The three ways run in turn, several times (A B C A B C ...), so that a busy machine disturbs them alike; the
overhead is taken within each round against no refresh, and its median, lowest and highest are printed. Importing torch
in the background process, once a run, is before the clock starts: a first refresh goes live there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ragkit.corpus import PassageStore, write_store
from ragkit.index import EncoderInfo, IndexSpec, write_index
from ragkit.losses import contrastive
from ragkit.refresh import clone_index
from ragkit.retriever import DualEncoder
from ragkit.retriever.open import CORPUS
from ragkit.seeding import make_generator
from ragkit.training.refresh import Refresher
from ragkit.training.refresh_policy import BackgroundPolicy, RefreshPolicy
from ragkit.types import Passage

WORDS = [f"w{number}" for number in range(400)]
WARM = 10  # updates before the clock starts; the refresh at the fifth waits for the background process
QUERIES, K = 16, 8
WAYS = {"none": ("never", "sync"), "sync": ("5-6:1,{warm}-:{rate}", "sync"), "async": ("5-6:1,{warm}-:{rate}", "async")}


def make_model(folder: Path) -> DualEncoder:
    """A BERT of two layers and 64 dimensions with random weights."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.random.set_rng_state(make_generator(0, "model").get_state())
        sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
        BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    return DualEncoder.from_pretrained(str(folder), device="cpu", dtype="float32")


def make_index(folder: Path, encoder: DualEncoder, *, count: int) -> None:
    """An index of ``count`` passages of 40 words drawn by a seed."""
    draw = random.Random(0)
    passages = (Passage(f"p{number}", " ".join(draw.choices(WORDS, k=40)), "") for number in range(count))
    store = write_store(passages, folder.parent / "store")
    made_by = EncoderInfo(encoder.reference, encoder.digest, "float32", dict(encoder.recipe))
    vectors = encoder.encode_passages(store.take(np.arange(count)))
    write_index(vectors, IndexSpec(), folder, encoder=made_by, corpus_digest=store.digest)
    (folder.parent / "store").rename(folder / CORPUS)


def train(encoder: DualEncoder, refresher: Refresher, *, updates: Sequence[int]) -> list[dict[str, Any]]:
    """Updates on the hits of the live index: the first is drawn towards its query, the others away; what refreshed."""
    optimizer = torch.optim.SGD(encoder.parameters(), lr=1e-3)
    events = []
    for update in updates:
        event = refresher.step(update)
        events += [event.figures()] if event else []
        draw = random.Random(update)
        questions = [" ".join(draw.choices(WORDS, k=6)) for _ in range(QUERIES)]
        hits = refresher.retriever.search(questions, k=K)
        encoder.train()
        vectors = encoder.passage_vectors(refresher.store.take(hits.rows.reshape(-1)))
        loss = contrastive(encoder.query_vectors(questions), vectors, torch.arange(QUERIES) * K, temperature=1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return events


def one_run(folder: Path, way: str, *, steps: int, rate: int) -> dict[str, Any]:
    """Seconds of ``steps`` updates, the seconds of them that training waited, and the refreshes in them."""
    schedule, mode = WAYS[way]
    schedule = schedule.format(warm=WARM + rate // 2, rate=rate)
    policy = RefreshPolicy(schedule=schedule, mode=mode, keep=1, background=BackgroundPolicy(lag=0.5, threads=1))
    encoder = DualEncoder.from_pretrained(str(folder / "model"), device="cpu", dtype="float32")
    with tempfile.TemporaryDirectory(dir=folder) as own:
        index = clone_index(folder / "index", Path(own) / "index")
        queries = [" ".join(random.Random(-number).choices(WORDS, k=6)) for number in range(1, 200)]
        with Refresher(policy, index, encoder, PassageStore.open(index / CORPUS), queries=queries) as refresher:
            train(encoder, refresher, updates=range(WARM))
            started = time.perf_counter()
            events = train(encoder, refresher, updates=range(WARM, WARM + steps))
            seconds = time.perf_counter() - started
    switched = [event for event in events if event["refresh"] == "switched"]
    waited = sum(event["refresh_waited"] for event in events)
    made = [event["refresh_seconds"] for event in switched]
    return {"seconds": seconds, "waited": waited, "refreshes": len(switched), "made": statistics.mean(made or [0.0])}


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": 1,
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "transformers", "faiss-cpu")},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer updates and one round: under two minutes")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--steps", type=int, help="updates of a run; 300, or 80 with --quick")
    parser.add_argument("--rate", type=int, default=40, help="updates between two refreshes")
    parser.add_argument("--passages", type=int, default=2000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    steps, rounds = arguments.steps or (80 if arguments.quick else 300), 1 if arguments.quick else 3
    stated = machine()
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_index(folder / "index", make_model(folder / "model"), count=arguments.passages)
        for _ in range(rounds):
            for way, found in runs.items():
                found.append(one_run(folder, way, steps=steps, rate=arguments.rate))
    print(
        f"{arguments.passages} passages, {steps} updates, a refresh every {arguments.rate}, {rounds} rounds; {stated}"
    )
    figures: dict[str, Any] = {"passages": arguments.passages, "steps": steps, "rate": arguments.rate}
    for way, found in runs.items():
        seconds, waited, made = (statistics.median(run[key] for run in found) for key in ("seconds", "waited", "made"))
        print(f"{way:6s} {seconds:7.1f} s  waited {waited:6.1f} s  {found[0]['refreshes']} refreshes of {made:.2f} s")
        if way != "none":
            over = [run["seconds"] / none["seconds"] - 1 for run, none in zip(found, runs["none"], strict=True)]
            figures |= {f"{way}_overhead": statistics.median(over), f"{way}_overhead_range": [min(over), max(over)]}
            print(f"       overhead {statistics.median(over):+.0%}  ({min(over):+.0%} to {max(over):+.0%})")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures | {"runs": runs, "machine": stated}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
