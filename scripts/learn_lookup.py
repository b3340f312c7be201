"""Does FiD learn to look a fact up? A T5 from random weights, asked about persons it has never seen.

A made-up world (lookup_world.py): every question comes with the passage that answers it and distractors that share the
person, a name or the relation. The reader is trained by ragkit's own loop on some persons and tested on others, whose
answers it can only find by reading. ``chance`` is the share that the value of a passage drawn at random gets right.

    python scripts/learn_lookup.py --quick --json learn_lookup.json --plot learn_lookup.svg
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lookup_world
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ragkit.metrics import bootstrap_interval, exact_match
from ragkit.reader.fid import FusionReader
from ragkit.reader.generation import GenerationOptions
from ragkit.reader.prompts import FusionOptions
from ragkit.training.answering import GenerativeOptions
from ragkit.training.generative import GenerativeTask
from ragkit.training.loop import train
from ragkit.training.policy import ComputePolicy, OptimizerPolicy, SavePolicy, TrainPolicy
from ragkit.types import Example, ScoredPassage

INPUTS = FusionOptions(max_length=40, max_question=12, question="{text}", passage="{text}", memory="states_and_words")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, test, report; 1 where the answers are no better than chance."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    world = lookup_world.make_world(names=options.names)
    learned, tested = (
        lookup_world.questions(world, persons, distractors=options.passages - 1)
        for persons in (world.seen, world.unseen)
    )
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch)
        model = lookup_world.write_model(out / "start", world.words)
        reader = FusionReader.from_pretrained(
            str(model), options=INPUTS, generation=GenerationOptions(max_tokens=4), device="cpu", dtype=options.dtype
        )
        draws = GenerativeOptions(passages="gold", n_passages=[1, options.passages], draw="random", dev_questions=200)
        task = GenerativeTask(reader, train=learned, dev=tested, options=draws)
        started = time.perf_counter(), time.process_time()
        if stopped := train(task, _policy(options), out / "run").signal:
            return 128 + stopped
        seconds = time.perf_counter() - started[0], time.process_time() - started[1]
        curve = _curve(out / "run" / "log.jsonl")
    figures = {
        **_test(reader, tested, n_passages=options.passages),
        "chance": _chance(tested),
        "n_questions": len(tested),
        "n_passages": options.passages,
        "parameters": sum(parameter.numel() for parameter in reader.parameters()),
        "steps": options.steps,
        "seconds": seconds[0],
        "cpu_seconds": seconds[1],
    }
    _report(figures, curve)
    if options.json:
        content = {**figures, "curve": curve, "machine": _machine(options.threads)}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        _plot(curve, figures["chance"], options.plot)
    return 0 if figures["exact_match"] > 2 * figures["chance"] else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer passages and steps, under two minutes")
    parser.add_argument("--steps", type=int, help="updates (default 2000; quick: 800)")
    parser.add_argument("--passages", type=int, help="of a question, one of which answers (default 4; quick: 3)")
    parser.add_argument("--names", type=int, default=24, help="first names, and as many last names")
    parser.add_argument("--namesakes", type=int, default=0, help="distractors that share one of the person's names")
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or auto")
    parser.add_argument("--out", type=Path, help="keep the run in this folder, and resume it there")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--plot", type=Path, help="write the learning curve to this picture")
    found = parser.parse_args(arguments)
    found.steps = found.steps or (800 if found.quick else 2000)
    found.passages = found.passages or (3 if found.quick else 4)
    return found


def _policy(options: argparse.Namespace) -> TrainPolicy:
    return TrainPolicy(
        steps=options.steps,
        batch_size=32,
        compute=ComputePolicy(device="cpu", dtype=options.dtype),
        optimizer=OptimizerPolicy(learning_rate=options.rate, warmup=0.05, clip=1.0),
        save=SavePolicy(eval_every=max(1, options.steps // 10), export="last", log_every=10),
    )


def _test(reader: FusionReader, tested: Sequence[Example], *, n_passages: int) -> dict[str, float]:
    """Exact match on questions about unseen persons, with its interval of 95 %."""
    questions = [example.question for example in tested]
    hits = [[ScoredPassage(p, 0.0) for p in (*e.positives, *e.hard_negatives)][:n_passages] for e in tested]
    found = reader.answer(questions, hits)
    right = np.array([exact_match(p.text, e.answers) for p, e in zip(found, tested, strict=True)])
    interval = bootstrap_interval(right, generator=np.random.default_rng(0))
    return {"exact_match": interval.value, "low": interval.low, "high": interval.high}


def _chance(tested: Sequence[Example]) -> float:
    """How often the value of a passage drawn at random is the answer; no distractor has the answer's value."""
    return sum(1 / (1 + len(example.hard_negatives)) for example in tested) / len(tested)


def _curve(log: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if "dev_exact_match" in line]


def _report(figures: dict[str, Any], curve: Sequence[dict[str, Any]]) -> None:
    table = Table(title=f"FiD from random weights, {figures['parameters']:,} parameters; {_machine(1)}")
    for heading in ("step", "exact match", "nll"):
        table.add_column(heading, justify="right")
    for line in curve:
        table.add_row(str(line["step"]), f"{line['dev_exact_match']:.3f}", f"{line['dev_nll']:.3f}")
    Console(width=120).print(table)
    print(
        f"unseen persons: exact match {figures['exact_match']:.3f} [{figures['low']:.3f}, {figures['high']:.3f}] on "
        f"{figures['n_questions']} questions with {figures['n_passages']} passages; chance {figures['chance']:.3f}; "
        f"{figures['steps']} steps in {figures['seconds']:.0f} s ({figures['cpu_seconds']:.0f} CPU s)"
    )


def _plot(curve: Sequence[dict[str, Any]], chance: float, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.5))
    axes.plot([line["step"] for line in curve], [line["dev_exact_match"] for line in curve], marker="o", label="FiD")
    axes.axhline(chance, linestyle="--", color="gray", label="a passage at random")
    axes.set(xlabel="step", ylabel="exact match, unseen persons", ylim=(0, 1))
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def _machine(threads: int) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "ragkit"))
    return f"{platform.machine()}, {os.cpu_count()} CPUs, {threads} torch threads; {packages}"


if __name__ == "__main__":
    sys.exit(main())
