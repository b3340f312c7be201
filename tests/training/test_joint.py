"""Retriever and reader trained together: who moves, by which optimizer, on how many passages, and resuming both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ragkit.binding import build
from ragkit.checkpoint import read_checkpoint
from ragkit.config import compose
from ragkit.training.loop import train
from ragkit.training.policy import OptimizerPolicy, TrainPolicy
from ragkit.types import Passage

from .answers_place import Place, command, small_policy

TAUGHT = {"reader": "trained"}


def both_policies(steps: int, **save: Any) -> TrainPolicy:
    """Two optimizers with schedules that differ from each other and from one update to the next."""
    common = small_policy(steps, log_every=1, **save)
    return TrainPolicy(
        steps=steps,
        batch_size=6,
        compute=common.compute,
        save=common.save,
        optimizer=OptimizerPolicy(learning_rate=0.02, schedule="cosine", warmup=2),
        optimizers={"reader": OptimizerPolicy(learning_rate=1e-3, schedule="linear", warmup=1)},
    )


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def moved(module: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, weight in module.state_dict().items() if not torch.equal(weight, before[name])}


def steps_of(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def test_a_run_of_both_models_resumes_with_both_optimizers_and_schedules(place: Place):
    """Defect 5 of the reference: a retriever's optimizer and schedule that were never put back.

    Losses, both rates and both models' weights are those of a run never stopped, in every bit.
    """
    ends = {}
    for name in ("joint whole", "joint cut"):
        task = place.task(name, reader=place.models.make_reader(place.world, dim=48), schedule="3", teaching=TAUGHT)
        if name == "joint cut":
            _die_before(task, 6)
            with pytest.raises(KeyboardInterrupt):
                train(task, both_policies(8, save_every=4), place.folder / name)
            saved = read_checkpoint(place.folder / name / "checkpoints" / "latest")
            assert {"retriever", "reader", "optimizer"} <= set(saved.tensors)
            reader = place.models.make_reader(place.world, dim=48)
            task = place.task(name, reader=reader, schedule="3", teaching=TAUGHT)
        train(task, both_policies(8, save_every=4), place.folder / name)
        ends[name] = weights_of(task.encoder), weights_of(task.reader), steps_of(place.folder / name)
    (retriever, reader, whole), (retriever_too, reader_too, cut) = ends.values()
    for one, other in ((retriever, retriever_too), (reader, reader_too)):
        assert all(torch.equal(weight, other[name]) for name, weight in one.items())
    keys = ("step", "retriever_loss", "reader_loss", "learning_rate", "learning_rate_reader", "gradient_norm")
    assert [[line[key] for key in keys] for line in cut] == [[line[key] for key in keys] for line in whole]
    assert len({line["learning_rate"] for line in whole}) > 4  # the control: rates that moved
    assert len({line["learning_rate_reader"] for line in whole}) > 4
    assert len({line["learning_rate"] / line["learning_rate_reader"] for line in whole}) > 4


def _die_before(task: Any, last: int) -> None:
    begin = task.begin

    def dies(update: int) -> Any:
        if update == last:
            raise KeyboardInterrupt
        return begin(update)

    task.begin = dies


def test_a_frozen_retriever_stays_as_it_is_and_its_index_too_while_the_reader_learns(place: Place):
    """Silent failure: weight decay, or a refresh that copies the index for nothing."""
    reader = place.models.make_reader(place.world, dim=48)
    task = place.task("frozen", reader=reader, schedule="1", teaching={**TAUGHT, "retriever": "frozen"})
    before, start = weights_of(task.encoder), weights_of(reader)
    train(task, small_policy(3, log_every=1), place.folder / "frozen")
    assert moved(task.encoder, before) == set()
    assert moved(reader, start)
    assert [folder.name for folder in (place.folder / "frozen" / "index").glob("g*")] == ["g000001"]
    assert all("retriever_loss" not in line for line in steps_of(place.folder / "frozen"))
    assert not (place.folder / "frozen" / "retriever").exists()


def test_a_frozen_reader_stays_as_it_is_while_the_retriever_learns(place: Place):
    reader = place.models.make_reader(place.world, dim=48)
    task = place.task("frozen reader", reader=reader)
    before, start = weights_of(task.encoder), weights_of(reader)
    train(task, small_policy(3, log_every=1), place.folder / "frozen reader")
    assert moved(reader, start) == set()
    assert moved(task.encoder, before)
    assert all("reader_loss" not in line for line in steps_of(place.folder / "frozen reader"))


def test_the_readers_loss_reaches_the_reader_alone_and_reads_the_first_of_the_passages(place: Place, monkeypatch: Any):
    """k of the retriever's loss is 6 and the reader's 2: the first two, of the six whose scores have a gradient.

    With the retriever's loss left out (frozen until update 9) only the reader may have gradients.
    """
    reader = place.models.make_reader(place.world, dim=48)
    teaching = {**TAUGHT, "freeze_retriever_steps": 9}
    task = place.task("widths", reader=reader, teaching=teaching, finding={"k": 6, "reader_k": 2})
    seen: list[list[int]] = []
    loss_of = reader.answer_nll

    def watched(questions: Any, passages: Any, answers: Any, **options: Any) -> Any:
        seen.append([len(line) for line in passages])
        assert list(passages) == [line[:2] for line in batch.found.passages]
        return loss_of(questions, passages, answers, **options)

    monkeypatch.setattr(reader, "answer_nll", watched)
    batch = task.collate(task.items[:3], generator=torch.Generator().manual_seed(0))
    assert [len(line) for line in batch.found.passages] == [6, 6, 6]
    task.begin(0)
    task.backward(batch, backward=lambda loss: loss.backward())  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in task.encoder.parameters())
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in reader.parameters())
    assert seen == [[2, 2, 2]]
    task.begin(9)
    task.backward(batch, backward=lambda loss: loss.backward())  # type: ignore[no-untyped-call]
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in task.encoder.parameters())
    task.close()


def test_the_schedule_counts_optimizer_updates_and_not_their_parts(place: Place):
    """The reference counts micro-batches: with accumulation its index is refreshed so many times too often."""
    policy = small_policy(5, log_every=1)
    parts = TrainPolicy(
        steps=5, batch_size=6, accumulate=3, compute=policy.compute, optimizer=policy.optimizer, save=policy.save
    )
    train(place.task("parts", schedule="2"), parts, place.folder / "parts")
    lines = [json.loads(line) for line in (place.folder / "parts" / "log.jsonl").read_text().splitlines()]
    assert [line["refresh_began"] for line in lines if "refresh" in line] == [2, 4]


def _named(passage: Passage) -> Passage:
    """The passage with its second and third words as a name, and its first one as its title."""
    first, second, third, *rest = passage.text.split()
    return Passage(passage.id, " ".join([first, second.capitalize(), third.capitalize(), *rest]), first)


@pytest.mark.parametrize(
    ("pretext", "loss", "more", "is_left_out"),
    [
        ("salient", "emdr2", [], True),
        ("title", "emdr2_atlas", [], True),
        ("span", "ldist", [], True),
        ("salient", "emdr2", ["task.options.finding.exclude_own=false"], False),  # the control
    ],
)
def test_every_pretext_leaves_the_questions_own_passage_out_and_may_have_a_null_one(
    place: Place, tmp_path: Path, monkeypatch: Any, *, pretext: str, loss: str, more: list[str], is_left_out: bool
):
    """Property 9 by the command: salient spans and titles, with REALM's marginal and with another loss."""
    from ragkit.training.atlas import AtlasTask
    from ragkit.training.finding import NULL_PASSAGE

    found: list[tuple[str, list[str]]] = []
    collate = AtlasTask.collate

    def watched(self: Any, items: Any, *, generator: Any) -> Any:
        batch = collate(self, items, generator=generator)
        for item, line in zip(items, batch.found.passages, strict=True):
            assert line[-1] is NULL_PASSAGE
            assert len(line) == 5
            found.append((item.id, [passage.id for passage in line]))
        return batch

    monkeypatch.setattr(AtlasTask, "collate", watched)
    named = [_named(passage) for passage in place.world.passages]
    place.make_index(tmp_path / "named", place.models.make_retriever(place.world, dim=32), named)
    given = [word for word in command(place, tmp_path, loss) if not word.startswith(("data.train=", "index_dir="))]
    words = [*given, f"index_dir={tmp_path}/named"]
    both = [f"pretext={pretext}", "task.options.teaching.reader=trained", "task.options.finding.null_passage=true"]
    build(compose("train", [*words, *both, *more])).run()
    assert len(found) == 10
    assert all(own not in ids for own, ids in found) == is_left_out
