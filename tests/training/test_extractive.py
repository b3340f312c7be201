"""The extractive reader's task in the training loop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ragkit.errors import CheckpointError, ConfigError
from ragkit.losses import extractive
from ragkit.reader import ExtractiveReader, InputOptions, open_reader
from ragkit.training.data import DataFiles
from ragkit.training.extractive import ExtractiveTask
from ragkit.training.loop import Task, train
from ragkit.training.policy import ComputePolicy, OptimizerPolicy, SavePolicy, TrainPolicy
from ragkit.training.reading import ReadingOptions
from ragkit.types import Example, Passage

TOPICS = ["fox", "river", "hill", "stone", "dog", "north"]
PLACES = ["king", "bread", "ship", "moon", "gold", "south"]


def _passage(topic: str, place: str, *, colour: str) -> Passage:
    return Passage(f"{colour} {topic}", f"the {colour} {topic} was in {place} of")


def _examples() -> list[Example]:
    """Where is each topic? An old one is where the answer says; the red ones are elsewhere."""
    pairs = list(zip(TOPICS, PLACES, strict=True))
    return [
        Example(
            topic,
            f"where was the {topic}",
            (place,),
            (_passage(topic, place, colour="old"),),
            tuple(_passage(topic, other, colour="red") for other in PLACES if other != place),
        )
        for topic, place in pairs
    ]


INPUTS = InputOptions(max_length=32, max_question=8, max_title=4)


@pytest.fixture
def task(model_dir: Path) -> ExtractiveTask:
    reader = ExtractiveReader.from_pretrained(str(model_dir), options=INPUTS, device="cpu", dtype="float32")
    return ExtractiveTask(reader, train=_examples(), dev=_examples(), options=ReadingOptions(n_passages=3))


def _policy(**changes: object) -> TrainPolicy:
    values: dict[str, object] = {
        "steps": 60,
        "batch_size": 6,
        "compute": ComputePolicy(device="cpu", dtype="float32"),
        "optimizer": OptimizerPolicy(learning_rate=3e-3),
        "save": SavePolicy(metric="exact_match", eval_every=60, log_every=10),
    }
    return TrainPolicy(**{**values, **changes})


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_the_task_is_a_task(task: ExtractiveTask):
    assert isinstance(task, Task)


def test_training_learns_to_select_and_to_answer_and_writes_a_reader(task: ExtractiveTask, tmp_path: Path):
    """Guards against spans off by the length of question and title: the loss falls then too, the answers stay wrong."""
    before = task.evaluate()
    result = train(task, _policy(), tmp_path)
    assert before["exact_match"] < 0.5
    assert result.figures["exact_match"] == 1.0
    assert result.figures["selected_has_answer"] == 1.0
    reader = open_reader(str(tmp_path), device="cpu", dtype="float32")
    assert reader.is_trained
    texts = [prediction.text for prediction in reader.answer([e.question for e in task.items], task._dev_passages)]
    assert texts == PLACES


def test_a_batch_holds_the_positive_first_and_other_passages_after_it(task: ExtractiveTask):
    batch = task.collate(task.items, generator=_generator())
    tokenizer = task.reader.tokenizer
    assert batch.inputs.ids.shape[:2] == (6, 3)
    for row, item in enumerate(task.items):
        lines = [tokenizer.convert_ids_to_tokens(line.tolist()) for line in batch.inputs.ids[row]]
        first, last = batch.spans[row, 0].tolist()
        assert lines[0][first : last + 1] == [item.answers[0]]
        assert all(item.answers[0] not in line for line in lines[1:])
        assert lines[1] != lines[2]


def test_draws_depend_on_the_seed_and_the_item_alone(task: ExtractiveTask):
    """Guards against passages that differ between one process and two, or after a resumption."""
    whole = task.collate(task.items, generator=_generator())
    part = task.collate(task.items[3:], generator=_generator())
    assert torch.equal(whole.inputs.ids[3:], part.inputs.ids)
    other = task.collate(task.items, generator=torch.Generator().manual_seed(6))
    assert not torch.equal(whole.inputs.ids, other.inputs.ids)


def test_a_question_without_negatives_gets_other_questions_passages(model_dir: Path):
    """Guards against a selection loss of 0 at every step where a file has no negatives."""
    bare = [Example(e.id, e.question, e.answers, e.positives) for e in _examples()]
    reader = ExtractiveReader.from_pretrained(str(model_dir), options=INPUTS, device="cpu")
    task = ExtractiveTask(reader, train=bare, options=ReadingOptions(n_passages=3))
    assert task.counts.short == 6
    batch = task.collate(task.items, generator=_generator())
    assert batch.inputs.mask.any(-1).all()
    figures = task.backward(batch, backward=lambda _: None)
    assert figures["selection_loss"] > 0.1
    assert task.evaluate() == {}


def test_the_loss_is_dprs_and_reaches_every_head(task: ExtractiveTask):
    batch = task.collate(task.items, generator=_generator())
    losses: list[torch.Tensor] = []
    figures = task.backward(batch, backward=lambda loss: (losses.append(loss.detach()), loss.backward())[0])
    scores = task.reader(batch.inputs.ids, batch.inputs.mask, batch.inputs.segments)
    wanted = extractive(*scores, spans=batch.spans, positives=torch.zeros(6, dtype=torch.int64))
    torch.testing.assert_close(losses[0], wanted.detach())
    assert figures["loss"] == pytest.approx(figures["selection_loss"] + figures["span_loss"])
    heads = [task.reader.selection.weight, task.reader.model.qa_outputs.weight]
    assert all(head.grad.abs().max() > 1e-4 for head in heads)
    assert all(parameter.grad is not None for parameter in task.reader.parameters())


def test_frozen_layers_do_not_move(model_dir: Path, tmp_path: Path):
    reader = ExtractiveReader.from_pretrained(str(model_dir), options=INPUTS, device="cpu")
    task = ExtractiveTask(reader, train=_examples(), options=ReadingOptions(n_passages=3, frozen_layers=1))
    before = {name: parameter.detach().clone() for name, parameter in reader.named_parameters()}
    train(task, _policy(steps=3, save=SavePolicy()), tmp_path)
    moved = {name for name, parameter in reader.named_parameters() if not torch.equal(parameter, before[name])}
    assert not any("embeddings" in name or "layer.0." in name for name in moved)
    assert any("layer.1." in name for name in moved)
    with pytest.raises(ConfigError, match="frozen_layers=9, but BertModel has 2"):
        ExtractiveTask(reader, train=_examples(), options=ReadingOptions(frozen_layers=9))


def test_what_cannot_be_trained_is_said_before_anything_is_read(task: ExtractiveTask):
    with pytest.raises(ConfigError, match=r"data\.train=FILE"):
        ExtractiveTask.from_files(task.reader, data=DataFiles())


def _reader(model: Path) -> ExtractiveReader:
    return ExtractiveReader.from_pretrained(str(model), options=INPUTS, device="cpu", dtype="float32")


def _first(**changes: object) -> list[Example]:
    first, *others = _examples()
    return [replace(first, **changes), *others]


@pytest.mark.parametrize(
    "changed",
    [
        {"question": "who was the fox"},
        {"answers": ("king", "moon")},
        {"positives": (Passage("", "the long fox was in king of"),)},
        {"hard_negatives": _examples()[0].hard_negatives[1:]},
        {"positives": _examples()[0].positives, "hard_negatives": (*_examples()[0].hard_negatives[::-1],)},
    ],
    ids=["question", "answers", "positives", "negatives", "order of the negatives"],
)
def test_resuming_with_other_items_is_refused(model_dir: Path, tmp_path: Path, changed: dict[str, object]):
    """Guards against another file with as many items, which would resume silently."""
    policy, options = _policy(steps=1, save=SavePolicy()), ReadingOptions(n_passages=3)
    train(ExtractiveTask(_reader(model_dir), train=_examples(), options=options), policy, tmp_path)
    with pytest.raises(CheckpointError, match=r"task.data: the checkpoint has"):
        train(ExtractiveTask(_reader(model_dir), train=_first(**changed), options=options), policy, tmp_path)
    again = ExtractiveTask(_reader(model_dir), train=_first(), options=options)  # the control
    assert train(again, policy, tmp_path).steps == 1


def test_resuming_from_another_model_is_refused(tiny, model_dir: Path, tmp_path: Path):
    """Guards against another reader= of the same shape: by its reference, and by its weights behind the same one."""
    policy, other = _policy(steps=1, save=SavePolicy()), tiny.write_model(tmp_path / "other")
    train(ExtractiveTask(_reader(other), train=_examples()), policy, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"task.model.reference: the checkpoint has '.*other'"):
        train(ExtractiveTask(_reader(model_dir), train=_examples()), policy, tmp_path / "run")
    changed = _reader(other)
    with torch.no_grad():
        next(changed.parameters())[0, 0] += 1
    with pytest.raises(CheckpointError, match=r"task.model.weights: the checkpoint has"):
        train(ExtractiveTask(changed, train=_examples()), policy, tmp_path / "run")


@pytest.mark.parametrize("is_trained", [False, True])
def test_random_heads_are_never_exported_as_the_best(model_dir: Path, tmp_path: Path, is_trained: bool):
    """Guards against step 0 kept as best by a metric that is 0 throughout; a reader with trained heads may keep it."""
    reader = _reader(model_dir)
    reader.is_trained = is_trained
    before = reader.selection.weight.detach().clone()
    unanswerable = [replace(example, answers=("nothing",)) for example in _examples()]
    task = ExtractiveTask(reader, train=_examples(), dev=unanswerable, options=ReadingOptions(n_passages=3))
    train(task, _policy(steps=4, save=SavePolicy(metric="exact_match", eval_every=2)), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    found = {line["step"]: line["dev_exact_match"] for line in lines if "dev_exact_match" in line}
    assert found == {0: 0.0, 2: 0.0, 4: 0.0}
    assert json.loads((tmp_path / "metrics.json").read_text())["exported_step"] == (0 if is_trained else 2)
    assert torch.equal(reader.selection.weight, before) == is_trained
