"""A small world of passages with an index, and a run over it that refreshes: what tests run in processes of their own.

Usage: refreshing.py MODEL OUT KEY=VALUE ...   (keys of :func:`run` below)
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ragkit import distributed
from ragkit.corpus import PassageStore, write_store
from ragkit.index import EncoderInfo, IndexSpec, write_index
from ragkit.retriever import DualEncoder
from ragkit.seeding import make_generator
from ragkit.training.refresh import Refresher
from ragkit.training.refresh_policy import BackgroundPolicy, RefreshPolicy, StalenessPolicy
from ragkit.types import Passage

WORDS = ["fox", "river", "hill", "stone", "dog", "north", "south", "king", "bread", "ship", "moon", "gold"]
QUESTIONS = [f"{first} {second}" for first in WORDS for second in WORDS if first < second]


def passages(count: int = 60) -> list[Passage]:
    """Passages of three to nine words drawn by a seed."""
    generator = make_generator(0, "passages")
    found = []
    for number in range(count):
        drawn = torch.randint(len(WORDS), (3 + number % 7,), generator=generator).tolist()
        found.append(Passage(f"p{number}", " ".join(WORDS[word] for word in drawn), ""))
    return found


def load_encoder(model: Path, *, shared: bool | None = None) -> DualEncoder:
    return DualEncoder.from_pretrained(str(model), shared=shared, device="cpu", dtype="float32")


def make_index(folder: Path, encoder: DualEncoder, *, count: int = 60, spec: IndexSpec | None = None) -> PassageStore:
    """An index of the passages as generation 1 of ``folder``."""
    store = write_store(passages(count), folder.parent / f"{folder.name}-store")
    vectors = encoder.encode_passages(store.take(np.arange(count)))
    made_by = EncoderInfo(encoder.reference, encoder.digest, "float32", dict(encoder.recipe))
    write_index(vectors, spec or IndexSpec(), folder, encoder=made_by, corpus_digest=store.digest)
    (folder.parent / f"{folder.name}-store").rename(folder / "corpus")
    return PassageStore.open(folder / "corpus")


def nudge(encoder: DualEncoder, update: int, *, size: float = 0.05, only: str = "") -> None:
    """What stands for an optimizer update: a change of the weights that depends on nothing but its number."""
    generator = make_generator(0, "nudge", update)
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            step = torch.randn(weight.shape, generator=generator) * size * float(weight.std().nan_to_num() + 0.01)
            if name.startswith(only):
                weight.add_(step)


def policy(schedule: str = "5", **changes: Any) -> RefreshPolicy:
    lag = float(changes.pop("lag", 0.5))
    background = BackgroundPolicy(lag=lag if lag < 1 else int(lag), threads=1)
    staleness = StalenessPolicy(queries=8, k=3, pool=20, threshold=float(changes.pop("threshold", 0.8)))
    return RefreshPolicy(schedule=schedule, background=background, staleness=staleness, **changes)


def run(model: Path, out: Path, *, steps: int = 20, save_every: int = 4, **settings: Any) -> list[list[int]]:
    """Search, nudge, refresh, save; the rows found at every update, with the generation that found them first.

    A second run over the same ``out`` goes on from the last save, as a killed training run does.
    """
    encoder, index_dir, saved, lines = load_encoder(model), out / "index", out / "state.json", out / "lines.json"
    store = PassageStore.open(index_dir / "corpus")
    found: list[list[int]] = []
    with Refresher(policy(**settings), index_dir, encoder, store, queries=QUESTIONS) as refresher:
        first = 0
        if saved.exists():
            state = json.loads(saved.read_text())
            first, found = state["step"], state["found"]
            for update in range(first):
                nudge(encoder, update)
            refresher.load(state["refresher"])
        distributed.barrier()  # or a slow process reads what a fast one has saved since
        rows = None
        for update in range(first, steps):
            event = refresher.step(update, searched_rows=rows)
            if event:
                sys.stdout.write(json.dumps({"update": update, **event.figures()}) + "\n")
            rows = refresher.searcher.search(QUESTIONS[update % 20 : update % 20 + 2], k=4).rows
            found.append([refresher.generation, *rows.flatten().tolist()])
            nudge(encoder, update)
            if (update + 1) % save_every == 0:
                state = {"step": update + 1, "found": found, "refresher": refresher.state()}
                if distributed.is_main():
                    aside = saved.with_suffix(".tmp")
                    aside.write_text(json.dumps(state))
                    aside.replace(saved)
                distributed.barrier()
    if distributed.is_main():
        lines.write_text(json.dumps(found))
    return found


def main(words: Sequence[str]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    distributed.start_processes(torch.device("cpu"))
    given: dict[str, Any] = dict(word.split("=") for word in words[2:])
    for name in ("steps", "save_every"):
        if name in given:
            given[name] = int(given[name])
    given["sharded"] = given.get("sharded") == "true"
    run(Path(words[0]), Path(words[1]), **given)


if __name__ == "__main__":
    main(sys.argv[1:])
