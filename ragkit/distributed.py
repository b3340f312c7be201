"""Several processes as one: gathers that keep gradients, sums, and a world size that is checked.

Every function works in a single process too, where it is the identity. Start several with
``torchrun --nproc-per-node N -m ragkit.cli ...``; ``accelerate launch --cpu --num_processes N`` starts only one.
Every function that waits for the others raises ProcessLost, which names them, where some do not come.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn

from ragkit.errors import ConfigError, ProcessLost

log = logging.getLogger(__name__)

_ANSWER = 5.0  # seconds that a process which noticed a loss gives the others to say that they are there


def start_processes(device: torch.device, *, expected: int | None = None, timeout: float | int = 1800) -> None:
    """Join the process group that torchrun announced, say how many processes there are, and check it.

    ``expected`` None accepts any number. ``timeout`` is how many seconds a process waits for another: longer than the
    longest part of the work that one does alone. Raises ConfigError where another number was expected.
    """
    from accelerate import PartialState  # type: ignore[import-untyped]  # 1.5 s to import

    PartialState(cpu=device.type == "cpu", timeout=timedelta(seconds=timeout))
    found = world_size()
    if found > 1:  # a group left to the end of the interpreter may abort the process that ends last
        atexit.register(_leave)
    if expected is not None and found != expected:
        raise ConfigError(
            f"this run has {found} process{'es' if found > 1 else ''}, processes={expected} was asked for; start it "
            f"with: torchrun --nproc-per-node {expected} -m ragkit.cli train ... "
            "(accelerate launch --cpu starts a single process whatever its --num_processes says)"
        )
    if is_main():
        log.info("training in %d process%s on %s", found, "es" if found > 1 else "", device.type)
    if found == 1 and any(name.startswith("ACCELERATE_") for name in os.environ):
        log.warning("accelerate launch started this run as ONE process; for several use torchrun and processes=N")


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this process writes the files."""
    return rank() == 0


@contextmanager
def _together() -> Iterator[None]:
    """What all processes do inside the block; ProcessLost, with the ranks, where one does not come."""
    try:
        yield
    except RuntimeError as error:  # all that gloo raises, with a socket's address at best
        raise _lost(error) from error


def _lost(error: RuntimeError) -> ProcessLost:
    try:
        silent = _silent(_ANSWER)
        who = f"rank {', '.join(map(str, silent))}" if silent else "one that has come back since"
    except (dist.DistError, OSError) as unreachable:
        who = f"one that cannot be named, for the store of rank 0 is gone too ({unreachable})"
    return ProcessLost(
        f"rank {rank()} of {world_size()} waited in vain for {who}: it died or hangs, see its own output. Run the same "
        "command, with any number of processes, to go on from the newest checkpoint; where it was only slow, raise "
        f"policy.compute.timeout ({str(error).splitlines()[0][:200]})"
    )


def _silent(seconds: float) -> list[int]:
    """The ranks that do not say within so many seconds that they have noticed the loss too.

    Their connections to one another are closed by then; the store that they met at, torchrun's, is another one.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    wait = timedelta(seconds=seconds)
    store = dist.TCPStore(address, port, is_master=False, timeout=wait)  # type: ignore[attr-defined]  # documented there
    store.set(f"ragkit/there/{rank()}", "yes")
    silent, deadline = list(range(world_size())), time.monotonic() + seconds
    while silent and time.monotonic() < deadline:
        silent = [other for other in silent if not store.check([f"ragkit/there/{other}"])]
        time.sleep(0.05)
    return silent


def barrier() -> None:
    """Wait for the other processes."""
    if world_size() > 1:
        with _together():
            dist.barrier()


def gather_rows(rows: Shaped[Tensor, "row ..."]) -> Shaped[Tensor, "all_rows ..."]:
    """The rows of every process, in order of rank, each process with a number of its own; with gradient.

    The gradient of a row is the sum of what every process's loss gives it, so the sum over processes of the losses
    differentiates as one loss.
    """
    return rows if world_size() == 1 else cast(Tensor, _GatherRows.apply(rows))  # type: ignore[no-untyped-call]


def row_offset(count: int) -> int:
    """Where this process's ``count`` rows begin in what :func:`gather_rows` returns."""
    return 0 if world_size() == 1 else sum(_counts(count)[: rank()])


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        counts = _counts(len(rows))
        ctx.start = sum(counts[: rank()])
        ctx.count = len(rows)
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        received = [torch.empty_like(padded) for _ in counts]
        with _together():
            dist.all_gather(received, padded)
        return torch.cat([part[:count] for part, count in zip(received, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        with _together():
            dist.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.count]


def _counts(count: int) -> list[int]:
    own = torch.tensor([count], device=_device())
    received = [torch.empty_like(own) for _ in range(world_size())]
    with _together():
        dist.all_gather(received, own)
    return [int(other) for other in received]


def _device() -> torch.device:
    """Where the group's backend wants its tensors: NCCL moves GPU memory only."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up every parameter's gradient over the processes, in place.

    A parameter that no process used keeps no gradient (weight decay must not touch it); one that some processes used
    counts as zero in the others.
    """
    if world_size() == 1:
        return
    trained = list(parameters)
    used = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.uint8, device=_device())
    with _together():
        dist.all_reduce(used, op=dist.ReduceOp.MAX)
    for parameter, is_used in zip(trained, used.tolist(), strict=True):
        if is_used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            with _together():
                dist.all_reduce(parameter.grad)


def sum_floats(values: Sequence[float]) -> list[float]:
    """The sum over processes of each value, in float64."""
    if world_size() == 1:
        return list(values)
    totals = torch.tensor(values, dtype=torch.float64, device=_device())
    with _together():
        dist.all_reduce(totals)
    return [float(total) for total in totals]


def largest(value: int) -> int:
    """The largest of the processes' values."""
    if world_size() == 1:
        return value
    shared = torch.tensor([value], device=_device())
    with _together():
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return int(shared)


def from_main(values: Sequence[float]) -> list[float]:
    """The main process's values; every process gives as many."""
    if world_size() == 1:
        return list(values)
    shared = torch.tensor(values, dtype=torch.float64, device=_device())
    with _together():
        dist.broadcast(shared, src=0)
    return [float(value) for value in shared]


def share_weights(module: nn.Module) -> None:
    """Give every process the main process's parameters and buffers, in place."""
    if world_size() > 1:
        with _together():
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)
