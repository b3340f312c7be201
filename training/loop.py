"""The training loop: one for every model, over a :class:`~.task.Task` that knows its data and its loss.

A run is a function of its data, policy and seed: the order of the items, the draws of ``collate`` and the random
numbers of dropout are derived from (seed, step), never from what ran before. So a run that was killed and resumed has
exactly the losses of one that never stopped, and two processes see the batches of one.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ragkit import distributed
from ragkit.checkpoint import read_checkpoint
from ragkit.device import autocast, resolve_device, resolve_dtype
from ragkit.errors import ConfigError, TrainingDiverged
from ragkit.failpoints import failpoint
from ragkit.progress import progress as shown
from ragkit.seeding import derive_seed, global_randomness, make_generator

from .batches import BatchPlan
from .journal import Journal, write_text
from .policy import TrainedShare, TrainPolicy, build_optimizer
from .schedule import multiplier
from .signals import Stop, stop_on_signals
from .state import Progress, RunState
from .task import Backward, Paced, Task, starts_trained

__all__ = ["Task", "TrainResult", "train"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The end of a run: steps done and skipped, dev figures of the exported weights, the signal that cut it (or 0)."""

    steps: int
    skipped: int
    figures: Mapping[str, float]
    signal: int = 0


@dataclass(frozen=True, slots=True)
class _Run:
    """What stays the same from the first step to the last."""

    task: Task
    policy: TrainPolicy
    plan: BatchPlan
    shares: list[TrainedShare]
    state: RunState
    out: Path
    total: int
    device: torch.device
    dtype: torch.dtype


def train(task: Task, policy: TrainPolicy, out: Path) -> TrainResult:
    """Train to the end of the policy, or from the newest checkpoint in ``out`` to the end, and export the model.

    Writes ``out/checkpoints``, ``log.jsonl``, ``metrics.json`` and what the task exports. SIGINT and SIGTERM finish
    the step, write a checkpoint and return with ``signal`` set.

    Raises:
        CheckpointError: ``out`` holds a run with other settings, or only damaged checkpoints.
        TrainingDiverged: more than ``policy.save.max_skipped`` updates were not finite.
        ConfigError: the policy does not fit the data or the number of processes.
    """
    run = _start(task, policy, out)
    run.state.resume(out / "checkpoints")
    journal = Journal(out / "log.jsonl", step=run.state.progress.step) if distributed.is_main() else None
    distributed.barrier()
    try:
        with stop_on_signals() as stop:
            signal = _train_steps(run, journal, stop)
        progress = run.state.progress
        if signal:
            log.warning("stopped by signal %d after step %d; run the same command to go on", signal, progress.step)
            return TrainResult(progress.step, progress.skipped, {}, signal)
        figures = _finish(run)
    finally:
        if run.state.paced is not None:
            run.state.paced.close()
    distributed.barrier()
    return TrainResult(progress.step, progress.skipped, figures)


def _start(task: Task, policy: TrainPolicy, out: Path) -> _Run:
    device = resolve_device(policy.compute.device)
    distributed.start_processes(device, expected=policy.compute.processes, timeout=policy.compute.timeout)
    dtype = resolve_dtype(policy.compute.dtype, device)
    plan = BatchPlan(len(task.items), policy.batch_size, policy.seed)
    plan.check(parts=policy.accumulate, world=distributed.world_size())
    for name, module in task.modules.items():
        wrong = {p.dtype for p in module.parameters() if p.requires_grad} - {torch.float32}
        if wrong:
            raise ConfigError(f"{name} has weights of {wrong}; train float32 weights (compute.dtype sets the autocast)")
        distributed.share_weights(module.to(device))  # new weights may be random, in each process others
    total = policy.total_steps(plan.steps_per_epoch)
    # a constant schedule does not depend on the length: such a run may be prolonged
    length = {} if policy.optimizer.schedule == "constant" and policy.optimizer.warmup >= 1 else {"steps": total}
    settings = {
        "policy": {**policy.identity(), **length},
        "task": dict(task.settings),
        "items": len(task.items),
        "computed_in": str(dtype).removeprefix("torch."),
    }
    shares = policy.shares(task.modules)
    state = RunState(
        task.modules, build_optimizer(shares), settings, Progress(), task if isinstance(task, Paced) else None
    )
    return _Run(task, policy, plan, shares, state, out, total, device, dtype)


def _train_steps(run: _Run, journal: Journal | None, stop: Stop) -> int:
    """Step by step to the end; the signal that cut it short, or 0."""
    progress, save = run.state.progress, run.policy.save
    eval_every = save.eval_every or run.plan.steps_per_epoch
    if progress.step == 0:
        # the start is a checkpoint too: new weights may be random, and nothing may beat the ones it began with
        _save(run, is_best=_evaluate(run, journal))
    with closing(_steps_to_do(run)) as steps:  # closed before an error is printed: the bar must be gone by then
        for _ in steps:
            _begin(run, journal)
            line = _step(run)
            is_last = progress.step == run.total
            if journal and (progress.step % save.log_every == 0 or is_last):
                journal.write(line)
            signal = distributed.largest(stop.signal)
            is_due = is_last or progress.step % eval_every == 0
            is_best = _evaluate(run, journal) if is_due and not signal else False
            if is_best or signal or is_last or progress.step % (save.save_every or eval_every) == 0:
                _save(run, is_best=is_best)
            failpoint("step")
            if signal and not is_last:
                return signal
    return 0


def _begin(run: _Run, journal: Journal | None) -> None:
    """Let a paced task do what is due before this update, and log what it says."""
    if run.state.paced is None:
        return
    said = run.state.paced.begin(run.state.progress.step)
    if journal and said:
        journal.write({"step": run.state.progress.step + 1, **said})  # of the update: redone with it after a crash


def _steps_to_do(run: _Run) -> Generator[int, None, None]:
    """The steps from where the run is to its end; the main process shows them, those done before counted as done."""
    steps, done = range(run.total), run.state.progress.step
    counted = shown(steps, description="training") if distributed.is_main() else iter(steps)
    yield from itertools.islice(counted, done, None)


def _save(run: _Run, *, is_best: bool) -> None:
    if distributed.is_main():
        run.state.save(run.out / "checkpoints", keep=run.policy.save.keep, is_best=is_best)
    distributed.barrier()


def _step(run: _Run) -> dict[str, Any]:
    """One update; its line for the log."""
    progress = run.state.progress
    started, step = time.perf_counter(), progress.step
    run.state.optimizer.zero_grad(set_to_none=True)
    for module in run.task.modules.values():
        module.train()
    figures = _gradients(run, step)
    distributed.sum_gradients(parameter for share in run.shares for parameter in share.parameters)
    norm = math.hypot(*(_clip(share) for share in run.shares))
    rates = _set_learning_rates(run, step)
    is_finite = math.isfinite(figures["loss"]) and math.isfinite(norm)
    if is_finite:
        run.state.optimizer.step()
    progress.step += 1
    if not is_finite:
        _count_skipped(run, figures["loss"], norm)
    line = {"step": progress.step, "epoch": run.plan.epoch(step), **figures}
    line |= {**rates, "gradient_norm": norm, "seconds": round(time.perf_counter() - started, 4)}
    return line if is_finite else {**line, "skipped": progress.skipped}


def _gradients(run: _Run, step: int) -> dict[str, float]:
    """Accumulate the gradients of this process's items; the figures, averaged over the items of all processes."""
    rank, world, seed = distributed.rank(), distributed.world_size(), run.policy.seed
    shares = run.plan.shares(step, parts=run.policy.accumulate, rank=rank, world=world)
    size = len(run.plan.batch(step))
    totals: dict[str, float] = {}
    for part, indices in enumerate(shares):
        batch = run.task.collate(
            [run.task.items[index] for index in indices.tolist()], generator=make_generator(seed, "draw", step)
        )
        weight = len(indices) / size
        with (
            global_randomness(derive_seed(seed, "dropout", step, part, rank), run.device),
            autocast(run.device, run.dtype),
        ):
            figures = run.task.backward(batch, backward=_weighted(weight, run.device))
        for name, value in figures.items():
            totals[name] = totals.get(name, 0.0) + weight * value
    names = sorted(totals)
    return dict(zip(names, distributed.sum_floats([totals[name] for name in names]), strict=True))


def _weighted(weight: float, device: torch.device) -> Backward:
    def backward(loss: Tensor) -> None:
        with torch.autocast(device.type, enabled=False):
            (loss * weight).backward()  # type: ignore[no-untyped-call]

    return backward


def _clip(share: TrainedShare) -> float:
    """Bound the norm of the share's gradient, by itself: no model scales another's steps; the norm before."""
    clip = share.policy.clip
    return float(torch.nn.utils.clip_grad_norm_(share.parameters, math.inf if clip is None else clip).detach())


def _set_learning_rates(run: _Run, step: int) -> dict[str, float]:
    """Each share's rate for this update, by the name it has in the log."""
    rates: dict[str, float] = {}
    for place, share in enumerate(run.shares):
        policy = share.policy
        warmup = policy.warmup_steps(run.total)
        rate = policy.learning_rate * multiplier(policy.schedule, step=step, warmup=warmup, total=run.total)
        for group in run.state.optimizer.param_groups[2 * place : 2 * place + 2]:
            group["lr"] = rate
        rates[f"learning_rate_{share.name}" if share.name else "learning_rate"] = rate
    return rates


def _count_skipped(run: _Run, loss: float, norm: float) -> None:
    progress, limit = run.state.progress, run.policy.save.max_skipped
    progress.skipped += 1
    log.warning("step %d skipped: loss %s, gradient norm %s", progress.step, loss, norm)
    if progress.skipped > limit:
        raise TrainingDiverged(
            f"{progress.skipped} updates up to step {progress.step} had a loss or gradient that is not finite (limit "
            f"save.max_skipped={limit}); lower optimizer.learning_rate, raise the temperature or the warmup, or train "
            f"with compute.dtype=float32. Checkpoints of the steps before are in {run.out / 'checkpoints'}"
        )


def _evaluate(run: _Run, journal: Journal | None) -> bool:
    """Evaluate, log, and say whether these weights are the best so far; random ones, before any step, never are."""
    figures: dict[str, float] = {}
    if distributed.is_main():
        with torch.no_grad(), global_randomness(derive_seed(run.policy.seed, "evaluate"), run.device):
            figures = run.task.evaluate()
    progress, metric = run.state.progress, run.policy.save.metric
    if journal and figures:
        journal.write({"step": progress.step, **{f"dev_{name}": value for name, value in figures.items()}})
        log.info("step %d: %s", progress.step, "  ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    name, sign = (metric or "").removeprefix("-"), -1.0 if (metric or "").startswith("-") else 1.0
    if figures and metric is not None and name not in figures:
        raise ConfigError(f"save.metric={metric} is not among the dev figures {sorted(figures)}")
    value = sign * figures.get(name, math.nan)
    (value,) = distributed.from_main([value])
    is_random = progress.step == 0 and not starts_trained(run.task)
    if is_random or math.isnan(value) or (progress.best is not None and value <= progress.best):
        return False
    progress.best, progress.best_step = value, progress.step
    return True


def _finish(run: _Run) -> dict[str, float]:
    """Export the best weights (or the last), and write their figures to metrics.json."""
    best = run.out / "checkpoints" / "best"
    exported = run.state.progress.step
    if run.policy.save.export == "best" and best.exists():
        checkpoint = read_checkpoint(best)
        run.state.load_weights(checkpoint)
        exported = checkpoint.state["progress"]["step"]
        log.info("the best weights by %s are those after step %d", run.policy.save.metric, exported)
    if run.state.paced is not None:
        run.state.paced.finish()
    if not distributed.is_main():
        return {}
    with torch.no_grad(), global_randomness(derive_seed(run.policy.seed, "evaluate"), run.device):
        figures = run.task.evaluate()
        run.task.export(run.out)
    progress = run.state.progress
    counts = {"n": len(run.task.items), "steps": progress.step, "exported_step": exported, "skipped": progress.skipped}
    made = {"processes": distributed.world_size(), "computed_in": run.state.settings["computed_in"]}
    metrics = {**counts, **made, **{f"dev_{name}": {"value": value} for name, value in figures.items()}}
    write_text(run.out / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    return figures
