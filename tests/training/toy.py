"""A small task for the loop, and a script that trains it: what tests run in processes of their own.

Usage: toy.py OUT KEY=VALUE ...   (keys of :func:`policy` below; lost=kill:1:3, or hang:1:3, loses rank 1 in step 3;
nan=1:3 gives rank 1 a loss that is not a number there)
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ragkit import distributed
from ragkit.seeding import make_generator
from ragkit.training.loop import TrainResult, train
from ragkit.training.policy import ComputePolicy, OptimizerPolicy, SavePolicy, TrainPolicy


class ToyTask:
    """Least squares with dropout: items are (x, y) pairs."""

    def __init__(self, *, items: int = 23, dropout: float = 0.3, nan_at: Sequence[int] = ()) -> None:
        generator = make_generator(7, "toy")
        self.weights = torch.randn(4, 1, generator=generator)
        self.items = [(x, x @ self.weights) for x in torch.randn(items, 4, generator=generator)]
        hidden = nn.Linear(4, 8), nn.LayerNorm(8), nn.Dropout(dropout), nn.Linear(8, 1)
        self.model = nn.Sequential(*hidden)
        for parameter in self.model.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        self.modules: Mapping[str, nn.Module] = {"model": self.model}
        self.settings = {"items": items, "dropout": dropout}
        self.nan_at = set(nan_at)
        self.batches: list[list[float]] = []
        self.exported: dict[str, Tensor] = {}
        self.lost = self.nan = ""

    def collate(self, items: Sequence[tuple[Tensor, Tensor]], *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        del generator
        self.batches.append([float(x[0]) for x, _ in items])
        return torch.stack([x for x, _ in items]), torch.stack([y for _, y in items])

    def backward(self, batch: tuple[Tensor, Tensor], *, backward: Callable[[Tensor], None]) -> dict[str, float]:
        x, y = batch
        loss = (self.model(x) - y).square().mean()
        if len(self.batches) in self.nan_at or self.nan == f"{distributed.rank()}:{len(self.batches)}":
            loss = loss * torch.nan
        backward(loss)
        self._lose()
        return {"loss": float(loss.detach())}

    def _lose(self) -> None:
        """In the middle of a step, with gradients that no optimizer has seen: die, or be there and do nothing."""
        how, _, when = self.lost.partition(":")
        if when == f"{distributed.rank()}:{len(self.batches)}":
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # or torchrun waits half a minute before it kills
            time.sleep(600)

    def evaluate(self) -> dict[str, float]:
        self.model.eval()
        x = torch.stack([x for x, _ in self.items])
        return {"fit": -float((self.model(x) - x @ self.weights).square().mean())}

    def export(self, out: Path) -> None:
        self.exported = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        (out / "model.json").write_text(json.dumps({name: value.tolist() for name, value in self.exported.items()}))


def policy(
    *,
    steps: int = 12,
    save_every: int = 3,
    eval_every: int = 4,
    processes: int | None = None,
    accumulate: int = 1,
    learning_rate: float = 0.01,
    timeout: int = 60,
) -> TrainPolicy:
    return TrainPolicy(
        steps=steps,
        batch_size=6,
        accumulate=accumulate,
        compute=ComputePolicy(device="cpu", dtype="float32", processes=processes, timeout=timeout),
        optimizer=OptimizerPolicy(learning_rate=learning_rate, weight_decay=0.01, warmup=2),
        save=SavePolicy(eval_every=eval_every, save_every=save_every, metric="fit"),
    )


def losses(out: Path) -> dict[int, float]:
    """Step -> loss, from the log; a step logged twice fails."""
    found: dict[int, float] = {}
    for line in map(json.loads, (out / "log.jsonl").read_text().splitlines()):
        if "loss" in line:
            assert line["step"] not in found, f"step {line['step']} is in the log twice"
            found[line["step"]] = line["loss"]
    return found


def main(words: Sequence[str]) -> TrainResult:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    given = dict(word.split("=") for word in words[1:])
    task = ToyTask(dropout=float(given.pop("dropout", "0.3")))
    task.lost, task.nan = given.pop("lost", ""), given.pop("nan", "")
    values = {key: float(value) if "." in value else int(value) for key, value in given.items()}
    return train(task, policy(**values), Path(words[0]))  # type: ignore[arg-type]


if __name__ == "__main__":
    result = main(sys.argv[1:])
    sys.exit(128 + result.signal if result.signal else 0)
