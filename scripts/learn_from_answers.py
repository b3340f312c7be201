"""Does a retriever learn from questions and answers alone? All four losses, their controls, and two other worlds.

A made-up world (answers_world.py): questions share no content word with their passages, and the untrained retriever
knows a third of the dictionary. A small FiD reader is trained on gold passages; from then on no gold passage is seen:
the retriever finds passages in its index, the frozen reader says what it thinks of them, and the index is refreshed.
``start`` and ``end`` are hit@1 of the own passage, by fresh vectors, for questions about entities that no training
question names. Kinds of run:

* ``shuffled``: every question has the answers of another; ``no_refresh``: the index stays that of the start;
* ``deeper``: 50 passages a question in place of ``--k``;
* ``redundant``: every fact stands in two passages, and either of them first counts as found;
* ``two_hop``: an answer takes two passages; the figure is the share of both among the first two, and the reader is
  simulated, by the rule that it knows the answer where it has both passages and not otherwise.

    python scripts/learn_from_answers.py --seeds 0 1 2 --jobs 2 --json answers.json --plot docs/learn-from-answers.svg
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import answers_models
import answers_report
import answers_world
import numpy as np
import torch

from ragkit.feedback import attention, leave_one_out, likelihood
from ragkit.losses import distillation_kl, marginal_nll
from ragkit.reader.protocol import Reader
from ragkit.retriever import DualEncoder
from ragkit.training.atlas import AtlasOptions, AtlasTask
from ragkit.training.finding import FindingOptions
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
SIZES = {
    "two_hop": answers_world.Size(entities=1000, values=20, hops=2),
    "redundant": answers_world.Size(entities=1000, copies=2),
}
KINDS = {  # and the methods that are of interest in each
    "plain": list(METHODS),
    "shuffled": ["emdr2", "ldist"],
    "no_refresh": ["emdr2", "ldist"],
    "deeper": ["adist"],
    "redundant": ["emdr2", "ldist", "lool"],
    "two_hop": ["ldist", "lool"],
}
DEEPER = 50
RATE = 0.1  # of the retriever: its only weights are vectors of words of length sqrt(64)


@dataclass(frozen=True, slots=True)
class Trial:
    """One run: a method in a world, perhaps with what makes it a control."""

    method: str
    seed: int
    kind: str = "plain"

    @property
    def name(self) -> str:
        """What it is stored under."""
        return f"{self.kind}-{self.method}-{self.seed}"


class Watched(AtlasTask):
    """The task, evaluated by fresh vectors of the whole corpus and by the own passages."""

    depth = 1

    def evaluate(self) -> dict[str, float]:
        """How many of the first ``depth`` passages are the entity's own, as a share; the mean over unseen entities."""
        passages = self.store.take(np.arange(len(self.store)))
        vectors = self.encoder.encode_passages(passages)
        scores = self.encoder.encode_queries([example.question for example in self._dev]) @ vectors.T
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self.depth]
        hits = [
            len({passages[row].id for row in line} & {p.id for p in example.positives}) / self.depth
            for line, example in zip(best, self._dev, strict=True)
        ]
        return {"found": float(np.mean(hits))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not yet in ``--out``, report all; 1 where EMDR2 did not learn."""
    options = _options(arguments)
    trials = _trials(options)
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        read = dict.fromkeys((_world_of(trial), trial.seed) for trial in trials if trial.kind != "two_hop")  # in order
        readers = _each(partial(_read, out=out, options=options), read, options)
        results = _each(partial(_result, out=out, options=options), trials, options)
    figures = answers_report.figures(results)
    title = f"found for unseen entities; {options.steps} updates of {options.batch} questions, k {options.k}"
    machine = answers_report.machine(options.threads)
    answers_report.report(figures, title=f"{title}, refresh every {options.every}; {machine}")
    cpu = sum(result["cpu_seconds"] for result in [*readers, *results])
    print(f"{len(readers)} readers and {len(results)} runs took {cpu:.0f} s of CPU")
    if options.json:
        content = {**figures, "trials": results, "readers": readers, "cpu_seconds": cpu, "machine": machine}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        answers_report.plot(results, options.plot, methods=list(METHODS))
    found = figures.get("emdr2")
    return 0 if found is None or found["end"] > 2 * found["start"] else 1


def _each(
    work: Callable[[Any], dict[str, Any]], items: Iterable[Any], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The work on every item, in ``--jobs`` processes."""
    if options.jobs == 1:
        torch.set_num_threads(options.threads)
        return list(map(work, items))
    spawn = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(options.jobs, spawn, torch.set_num_threads, (options.threads,)) as pool:
        return list(pool.map(work, items))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller world, EMDR2 and LDist, under two minutes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of worlds and models")
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), help="default: all (quick: emdr2 ldist)")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--steps", type=int, help="updates of the retriever (default 240; quick: 120)")
    parser.add_argument("--batch", type=int, default=16, help="questions an update")
    parser.add_argument("--k", type=int, default=20, help="passages a question")
    parser.add_argument("--every", type=int, default=40, help="updates between two refreshes")
    parser.add_argument("--reader-steps", type=int, help="updates of the reader (default 150)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
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
    return [
        Trial(method, seed, kind)
        for seed in options.seeds
        for kind in options.kinds
        for method in KINDS[kind]
        if method in options.methods
    ]


def _world_of(trial: Trial) -> str:
    return trial.kind if trial.kind in SIZES else "plain"


def _world(name: str, options: argparse.Namespace, *, seed: int) -> answers_world.World:
    size = answers_world.Size(entities=500, words=32, values=100) if options.quick else SIZES.get(name)
    return answers_world.make_world(size, seed=seed)


def _read(which: tuple[str, int], out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The reader of a world, trained in a folder of ``out``, and what that took."""
    name, seed = which
    file = out / f"reader-{name}-{seed}.json"
    if file.is_file():
        return _kept(file)
    started, cpu = time.perf_counter(), time.process_time()
    world = _world(name, options, seed=seed)
    reader = answers_models.make_reader(world, seed=seed)
    trained = _trained(answers_models.reading_task(reader, world, seed=seed), _reading(options), out / file.stem)
    return _keep(
        {
            "world": name,
            "seed": seed,
            "exact_match": trained.figures["exact_match"],
            "seconds": round(time.perf_counter() - started, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
        },
        file,
    )


def _result(trial: Trial, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of a trial: those of ``out``, or made now."""
    file = out / f"{trial.name}.json"
    if file.is_file():
        return _kept(file)
    world = _world(_world_of(trial), options, seed=trial.seed)
    if trial.kind == "two_hop":
        reader: Reader = answers_world.SimulatedReader(world)
    else:
        reader = answers_models.make_reader(world, seed=trial.seed)
        task = answers_models.reading_task(reader, world, seed=trial.seed)
        _trained(task, _reading(options), out / f"reader-{_world_of(trial)}-{trial.seed}")  # finished: only loaded
    started, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        curve = _teach(trial, world, reader, scratch=Path(scratch), options=options)
    seconds, cpu_seconds = (round(t, 1) for t in (time.perf_counter() - started, time.process_time() - cpu))
    print(f"{trial.name}: {curve[0][1]:.3f} -> {curve[-1][1]:.3f} in {seconds} s ({cpu_seconds} s of CPU)", flush=True)
    return _keep({**asdict(trial), "curve": curve, "seconds": seconds, "cpu_seconds": cpu_seconds}, file)


def _kept(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _keep(figures: dict[str, Any], file: Path) -> dict[str, Any]:
    file.write_text(json.dumps(figures) + "\n", encoding="utf-8")
    return figures


def _reading(options: argparse.Namespace) -> TrainPolicy:
    return _policy(options.reader_steps, rate=2e-3, batch_size=16, every=options.reader_steps)


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
        options=AtlasOptions(FindingOptions(k=DEEPER if trial.kind == "deeper" else options.k), teaching),
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


if __name__ == "__main__":
    sys.exit(main())
