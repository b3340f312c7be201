"""A made-up world with the index of its untrained retriever, and runs on copies of it (scripts/answers_world.py)."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from ragkit.corpus import PassageStore, write_examples
from ragkit.feedback import likelihood
from ragkit.losses import marginal_nll
from ragkit.refresh import clone_index
from ragkit.training.atlas import AtlasOptions, AtlasTask
from ragkit.training.finding import FindingOptions
from ragkit.training.objectives import FeedbackObjective
from ragkit.training.policy import ComputePolicy, OptimizerPolicy, SavePolicy, TrainPolicy
from ragkit.training.refresh import Refresher
from ragkit.training.refresh_policy import RefreshPolicy, StalenessPolicy
from ragkit.training.teaching import TeachingOptions

EMDR2 = FeedbackObjective(likelihood, partial(marginal_nll, temperature=0.3))


def load_script(path: Path) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # the other script imports it by its name
    spec.loader.exec_module(module)
    return module


class Place:
    """A world with the index of its untrained retriever, and runs on copies of it."""

    def __init__(self, scripts: Path, folder: Path) -> None:
        worlds, self.models = (load_script(scripts / f"answers_{name}.py") for name in ("world", "models"))
        self.folder, self.judge, self.make_index = folder, worlds.SimulatedReader, worlds.make_index
        self.world = worlds.make_world(worlds.Size(entities=300, words=30, name=3, values=60))
        self.index = folder / "index"
        self.make_index(self.index, self.models.make_retriever(self.world, dim=32), self.world.passages)

    def task(
        self, name: str, *, schedule: str = "20", objective: Any = EMDR2, reader: Any = None, **given: Any
    ) -> AtlasTask:
        finding = FindingOptions(**{"k": 8, **given.pop("finding", {})})
        options = AtlasOptions(finding=finding, teaching=TeachingOptions(**given.pop("teaching", {})))
        encoder = given.pop("encoder", None) or self.models.make_retriever(self.world, dim=32)
        clone_index(self.index, self.folder / name / "index")
        store = PassageStore.open(self.folder / name / "index" / "corpus")
        policy = RefreshPolicy(schedule=schedule, staleness=StalenessPolicy(queries=0))
        live = Refresher(policy, self.folder / name / "index", encoder, store)
        taught, asked = self.world.split()
        bare = [replace(example, positives=()) for example in taught]  # nothing that learns could read a gold passage
        judge = reader or self.judge(self.world)
        return AtlasTask(encoder, judge, train=bare, dev=asked, live=live, objective=objective, options=options)


def small_policy(steps: int, *, learning_rate: float = 0.02, **save: Any) -> TrainPolicy:
    return TrainPolicy(
        steps=steps,
        batch_size=16,
        compute=ComputePolicy(device="cpu", dtype="float32"),
        optimizer=OptimizerPolicy(learning_rate=learning_rate, schedule="constant", warmup=1),
        save=SavePolicy(**{"eval_every": 100000, "metric": None, "log_every": 10, **save}),
    )


def command(place: Place, folder: Path, loss: str, *more: str) -> list[str]:
    """The words of a small run by the command, its files in ``folder``, its output in ``folder/run``."""
    encoder, reader = place.models.make_retriever(place.world, dim=32), place.models.make_reader(place.world, dim=48)
    encoder.save_pretrained(folder / "encoder")
    reader.save_pretrained(folder / "reader")
    taught, asked = place.world.split()
    write_examples(taught, folder / "train.jsonl", format="dpr")
    write_examples(asked[:10], folder / "dev.jsonl", format="dpr")
    words = f"""experiment=atlas loss={loss} refresh=sync task.refresh.schedule=1 task.options.finding.k=4
        data.train={folder}/train.jsonl data.dev={folder}/dev.jsonl index_dir={place.index} out={folder}/run
        retriever={folder}/encoder reader={folder}/reader policy.steps=2 policy.batch_size=5 policy.save.log_every=1
        policy.compute.dtype=float32 policy.compute.device=cpu retriever.dtype=float32 reader.dtype=float32"""
    return [*words.split(), *more]
