"""Does a retriever learn from questions and answers alone? All four losses, their controls, and a world of two hops.

A made-up world (answers_world.py): questions share no content word with their passages, and the untrained retriever
knows a third of the dictionary. A small FiD reader is trained on gold passages; from then on no gold passage is seen:
the retriever finds passages in its index, the frozen reader says what it thinks of them, and the index is refreshed.
``start`` and ``end`` are hit@1 of the own passage, by fresh vectors, for questions about entities that no training
question names; in the world of two hops, the share of both passages among the first two. The reader of that world is
simulated, by the rule that it knows the answer where it has both passages and not otherwise.

    python scripts/learn_from_answers.py --seeds 0 1 2 --json learn_from_answers.json --plot learn_from_answers.svg
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
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import answers_models
import answers_world
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ragkit.feedback import attention, leave_one_out, likelihood
from ragkit.losses import distillation_kl, marginal_nll
from ragkit.reader.fid import FusionReader
from ragkit.reader.protocol import Reader
from ragkit.retriever import DualEncoder
from ragkit.training.answering import GenerativeOptions
from ragkit.training.atlas import AtlasOptions, AtlasTask
from ragkit.training.finding import FindingOptions
from ragkit.training.generative import GenerativeTask
from ragkit.training.loop import Task, TrainResult, train
from ragkit.training.objectives import FeedbackObjective
from ragkit.training.policy import ComputePolicy, OptimizerPolicy, SavePolicy, TrainPolicy
from ragkit.training.refresh import Refresher
from ragkit.training.refresh_policy import RefreshPolicy, StalenessPolicy
from ragkit.training.teaching import TeachingOptions
from ragkit.types import Example

METHODS = {  # temperatures of scores that are cosines
    "emdr2": FeedbackObjective(likelihood, partial(marginal_nll, temperature=0.2)),
    "ldist": FeedbackObjective(likelihood, partial(distillation_kl, temperature=0.1)),
    "adist": FeedbackObjective(attention, partial(distillation_kl, temperature=0.1)),
    "lool": FeedbackObjective(leave_one_out, partial(distillation_kl, temperature=0.1)),
}
TWO_HOPS = answers_world.Size(entities=1000, values=20, hops=2)
RATE = 0.1  # of the retriever: its only weights are vectors of words of length sqrt(64)


@dataclass(frozen=True, slots=True)
class Trial:
    """One run: a method in a world, perhaps with what makes it a control."""

    method: str
    seed: int
    kind: str = "plain"  # shuffled, no_refresh, two_hop

    @property
    def name(self) -> str:
        """What it is stored under."""
        return f"{self.kind}-{self.method}-{self.seed}"


class Watched(AtlasTask):
    """The task, evaluated by fresh vectors of the whole corpus and by the own passages."""

    depth = 1

    def evaluate(self) -> dict[str, float]:
        """The share of the own passages of unseen entities among the first ``depth``."""
        passages = self.store.take(np.arange(len(self.store)))
        vectors = self.encoder.encode_passages(passages)
        scores = self.encoder.encode_queries([example.question for example in self._dev]) @ vectors.T
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self.depth]
        hits = [
            len({passages[row].id for row in line} & {p.id for p in example.positives}) / len(example.positives)
            for line, example in zip(best, self._dev, strict=True)
        ]
        return {"found": float(np.mean(hits))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not yet in ``--out``, report all; 1 where EMDR2 did not learn."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        results = [_result(trial, out, options) for trial in _trials(options)]
    figures = _figures(results)
    _report(figures, options)
    if options.json:
        content = {**figures, "trials": results, "machine": _machine(options.threads)}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        _plot(results, options.plot)
    found = figures.get("emdr2")
    return 0 if found is None or found["end"] > 2 * found["start"] else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller world, EMDR2 and LDist, under two minutes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of worlds and models")
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), help="default: all (quick: emdr2 ldist)")
    parser.add_argument("--kinds", nargs="+", default=["plain", "shuffled", "no_refresh", "two_hop"])
    parser.add_argument("--steps", type=int, help="updates of the retriever (default 240; quick: 120)")
    parser.add_argument("--batch", type=int, default=16, help="questions an update")
    parser.add_argument("--k", type=int, default=20, help="passages a question")
    parser.add_argument("--every", type=int, default=40, help="updates between two refreshes")
    parser.add_argument("--reader-steps", type=int, help="updates of the reader (default 150)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--out", type=Path, help="keep finished trials in this folder, and do not repeat them")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--plot", type=Path, help="write the curves to this picture")
    found = parser.parse_args(arguments)
    found.steps = found.steps or (120 if found.quick else 240)
    found.reader_steps = found.reader_steps or (100 if found.quick else 150)
    if found.quick:
        found.seeds, found.kinds, found.k = found.seeds[:1], ["plain"], 10
    found.methods = found.methods or (["emdr2", "ldist"] if found.quick else list(METHODS))
    return found


def _trials(options: argparse.Namespace) -> list[Trial]:
    found = []
    for seed in options.seeds:
        for kind in options.kinds:
            methods = {"plain": options.methods, "two_hop": ["ldist", "lool"]}.get(kind, ["emdr2", "ldist"])
            found += [Trial(method, seed, kind) for method in methods if method in options.methods]
    return found


def _result(trial: Trial, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of a trial: those of ``out``, or made now."""
    file = out / f"{trial.name}.json"
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    size = TWO_HOPS if trial.kind == "two_hop" else answers_world.Size()
    if options.quick:
        size = answers_world.Size(entities=500, words=32, values=100)
    world = answers_world.make_world(size, seed=trial.seed)
    if trial.kind == "two_hop":
        reader: Reader = answers_world.SimulatedReader(world)
    else:
        reader = _reader(world, out / f"reader-{trial.seed}", options, seed=trial.seed)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        curve = _teach(trial, world, reader, scratch=Path(scratch), options=options)
    seconds = round(time.perf_counter() - started, 1)
    result = {**asdict(trial), "curve": curve, "seconds": seconds}
    file.write_text(json.dumps(result) + "\n", encoding="utf-8")
    print(f"{trial.name}: {curve[0][1]:.3f} -> {curve[-1][1]:.3f} in {seconds} s", flush=True)
    return result


def _reader(world: answers_world.World, out: Path, options: argparse.Namespace, *, seed: int) -> FusionReader:
    """The reader of a world, trained on gold passages among distractors."""
    reader = answers_models.make_reader(world, seed=seed)
    taught, asked = (answers_world.with_distractors(world, part, count=9, seed=seed) for part in world.split())
    draws = GenerativeOptions(
        passages="gold",
        n_passages=[3, 10],
        order="shuffled",
        label_smoothing=0.1,  # what it does not expect it shall find equally unlikely: that is no feedback
        dev_questions=100,
        dev_passages=10,
    )
    steps = options.reader_steps
    task = GenerativeTask(reader, train=taught, dev=asked, options=draws)
    policy = _policy(steps, rate=2e-3, batch_size=16, every=steps)
    started = time.perf_counter()
    result = _trained(task, policy, out)
    print(f"reader: EM {result.figures['exact_match']:.2f} on unseen entities, {time.perf_counter() - started:.0f} s")
    return reader


def _teach(
    trial: Trial, world: answers_world.World, reader: Reader, *, scratch: Path, options: argparse.Namespace
) -> list[tuple[int, float]]:
    """(updates, share found) of one trial."""
    encoder: DualEncoder = answers_models.make_retriever(world, seed=trial.seed)
    store = answers_world.make_index(scratch / "index", encoder, world.passages)
    schedule = "never" if trial.kind == "no_refresh" else options.every
    refresh = RefreshPolicy(schedule=schedule, keep=1, staleness=StalenessPolicy(queries=0))
    teaching = TeachingOptions(shuffle_answers=trial.kind == "shuffled", seed=trial.seed)
    taught, asked = world.split()
    task = Watched(
        encoder,
        reader,
        train=[_bare(example) for example in taught],
        dev=asked,
        live=Refresher(refresh, scratch / "index", encoder, store, seed=trial.seed),
        objective=METHODS[trial.method],
        options=AtlasOptions(FindingOptions(k=options.k), teaching),
    )
    task.depth = world.size.hops
    _trained(task, _policy(options.steps, rate=RATE, batch_size=options.batch, every=options.every), scratch / "run")
    lines = map(json.loads, (scratch / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [(line["step"], line["dev_found"]) for line in lines if "dev_found" in line]


def _trained(task: Task, policy: TrainPolicy, out: Path) -> TrainResult:
    """Train; a signal ends the script, for the loop has only finished the step."""
    result = train(task, policy, out)
    if result.signal:
        raise SystemExit(128 + result.signal)
    return result


def _bare(example: Example) -> Example:
    """The example without its gold passages: nothing that trains the retriever could read them."""
    return Example(example.id, example.question, example.answers)


def _policy(steps: int, *, rate: float, batch_size: int, every: int) -> TrainPolicy:
    return TrainPolicy(
        steps=steps,
        batch_size=batch_size,
        compute=ComputePolicy(device="cpu", dtype="float32"),
        optimizer=OptimizerPolicy(learning_rate=rate, schedule="linear", warmup=0.1, clip=1.0),
        save=SavePolicy(eval_every=every, save_every=steps, log_every=20, export="last", keep=1),
    )


def _figures(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, by method, and by kind and method for what is not plain."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["kind"], result["method"]), []).append(result)
    figures: dict[str, Any] = {}
    for (kind, method), group in groups.items():
        ends = [result["curve"][-1][1] for result in group]
        found = {
            "start": float(np.mean([result["curve"][0][1] for result in group])),
            "end": float(np.mean(ends)),
            "lowest": min(ends),
            "highest": max(ends),
            "seeds": len(group),
            "seconds": float(np.mean([result["seconds"] for result in group])),
        }
        (figures if kind == "plain" else figures.setdefault(kind, {}))[method] = found
    return figures


def _report(figures: dict[str, Any], options: argparse.Namespace) -> None:
    title = f"found for unseen entities; {options.steps} updates of {options.batch} questions, k {options.k}"
    table = Table(title=f"{title}, refresh every {options.every}; {_machine(options.threads)}")
    for heading in ("run", "start", "end", "lowest", "highest", "seeds", "seconds"):
        table.add_column(heading, justify="left" if heading == "run" else "right")
    rows = {name: found for name, found in figures.items() if "start" in found}
    rows |= {
        f"{kind}: {name}": found for kind, group in figures.items() if kind not in rows for name, found in group.items()
    }
    for name, found in rows.items():
        numbers = [f"{found[key]:.3f}" for key in ("start", "end", "lowest", "highest")]
        table.add_row(name, *numbers, str(found["seeds"]), f"{found['seconds']:.0f}")
    Console(width=120).print(table)


def _plot(results: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    kinds = list(dict.fromkeys(result["kind"] for result in results))
    figure, panels = pyplot.subplots(1, len(kinds), figsize=(3.6 * len(kinds), 3.2), sharey=True, squeeze=False)
    for panel, kind in zip(panels[0], kinds, strict=True):
        for place, method in enumerate(METHODS):
            curves = [result["curve"] for result in results if (result["kind"], result["method"]) == (kind, method)]
            for number, curve in enumerate(curves):
                panel.plot(*zip(*curve, strict=True), color=f"C{place}", alpha=0.8, label=None if number else method)
        panel.set(title=kind.replace("_", " "), xlabel="updates", ylim=(0, 1))
        panel.legend()
    panels[0][0].set_ylabel("own passage found, unseen entities")
    figure.tight_layout()
    figure.savefig(path)


def _machine(threads: int) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "ragkit"))
    return f"{platform.machine()}, {os.cpu_count()} CPUs, {threads} torch threads; {packages}"


if __name__ == "__main__":
    sys.exit(main())
