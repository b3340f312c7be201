"""Unsupervised training: crops, the momentum queue, and that it learns without labels."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ragkit.errors import ConfigError
from ragkit.losses import contrastive
from ragkit.seeding import make_generator
from ragkit.training.contriever import ContrieverOptions, ContrieverTask
from ragkit.training.crops import CropPolicy, crop, two_crops
from ragkit.training.data import DataFiles
from ragkit.training.loop import train
from ragkit.training.momentum import MomentumQueue
from ragkit.training.policy import ComputePolicy, OptimizerPolicy, SavePolicy, TrainPolicy


def _policy(steps: int) -> TrainPolicy:
    return TrainPolicy(
        steps=steps,
        batch_size=12,
        compute=ComputePolicy(device="cpu", dtype="float32"),
        optimizer=OptimizerPolicy(learning_rate=3e-3),
        save=SavePolicy(metric="mrr", eval_every=40),
    )


def _task(tiny, model_dir: Path, *, queue: int = 0, crops: CropPolicy | None = None) -> ContrieverTask:
    return ContrieverTask(
        tiny.encoder(model_dir),
        train=tiny.themed_texts(240),
        dev=tiny.themed_texts(12, seed=5),
        options=ContrieverOptions(crops or CropPolicy(0.1, 0.3, 0.0), queue=queue, momentum=0.9),
        loss=partial(contrastive, temperature=1.0),
    )


def test_crops_are_runs_of_words_between_the_bounds():
    """Guards the bounds and the order of words; with deletion some go, never all."""
    words = [f"w{number}" for number in range(40)]
    generator = make_generator(0)
    for _ in range(200):
        found = crop(" ".join(words), CropPolicy(0.1, 0.5, 0.0), generator=generator).split()
        assert 4 <= len(found) <= 20
        start = words.index(found[0])
        assert found == words[start : start + len(found)]
        thinned = crop(" ".join(words), CropPolicy(0.1, 0.5, 0.9), generator=generator).split()
        assert 1 <= len(thinned) <= 20
    assert crop("word", CropPolicy(), generator=generator) == "word"
    assert crop(" ", CropPolicy(), generator=generator) == ""


def test_two_crops_differ_and_cover_the_whole_passage_in_the_long_run():
    words = [f"w{number}" for number in range(10)]
    pairs = [two_crops(" ".join(words), CropPolicy(0.2, 0.4, 0.0), generator=make_generator(s)) for s in range(80)]
    assert sum(first != second for first, second in pairs) > 60
    assert {word for first, _ in pairs for word in first.split()} == set(words)


@pytest.mark.parametrize("queue", [0, 48])
def test_trains_without_labels_until_a_pair_is_closer_than_the_negatives(tiny, model_dir, tmp_path: Path, queue: int):
    """Property 12 on held-out crops; the control is the untrained encoder, which does not tell them apart."""
    task = _task(tiny, model_dir, queue=queue)
    untrained = task.evaluate()
    assert untrained["hit@1"] < 0.4
    assert untrained["average_rank"] > 4
    result = train(task, _policy(120), tmp_path)
    assert result.figures["hit@1"] > 0.6
    assert result.figures["average_rank"] < 3
    assert (tmp_path / "retriever" / "modules.json").is_file()


def test_queue_is_in_the_checkpoint_and_a_resumed_run_has_the_same_losses(tiny, model_dir: Path, toy, tmp_path: Path):
    """Guards the slow encoder, the queue and its position: none of them may start anew."""
    train(_task(tiny, model_dir, queue=30), _policy(8), tmp_path / "whole")
    cut = _task(tiny, model_dir, queue=30)
    policy = TrainPolicy(**{**_fields(_policy(8)), "save": SavePolicy(save_every=5, eval_every=5)})
    collate = cut.collate

    def die(items, *, generator):
        if len(toy.losses(tmp_path / "cut")) == 6:
            raise KeyboardInterrupt
        return collate(items, generator=generator)

    cut.collate = die
    with pytest.raises(KeyboardInterrupt):
        train(cut, policy, tmp_path / "cut")
    train(_task(tiny, model_dir, queue=30), policy, tmp_path / "cut")
    assert toy.losses(tmp_path / "cut") == toy.losses(tmp_path / "whole")


def _fields(policy: TrainPolicy) -> dict[str, object]:
    return {name: getattr(policy, name) for name in TrainPolicy.__slots__}


def test_queue_keeps_the_newest_vectors_and_follows_slowly():
    encoder = torch.nn.Linear(3, 2)
    queue = MomentumQueue(encoder, dim=2, size=4, momentum=0.75)
    assert not queue.negatives()[1].any()
    queue.push(torch.arange(6.0).reshape(3, 2))
    queue.push(torch.tensor([[6.0, 7.0], [torch.nan, 0.0], [8.0, 9.0]]))
    vectors, filled = queue.negatives()
    assert vectors.tolist() == [[8.0, 9.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]
    assert filled.all()
    before = queue.encoder.weight.clone()
    with torch.no_grad():
        encoder.weight += 1.0
    queue.follow(encoder)
    torch.testing.assert_close(queue.encoder.weight, before + 0.25)
    assert not queue.encoder.weight.requires_grad


def test_places_of_the_queue_that_are_still_empty_are_no_negatives(tiny, model_dir: Path):
    """Guards against zero vectors in the denominator: an empty queue changes no loss."""
    losses = []
    for queue in (0, 500):
        task = _task(tiny, model_dir, queue=queue)
        for module in task.modules.values():
            module.eval()
        batch = task.collate(task.items[:6], generator=make_generator(0))
        losses.append(task.backward(batch, backward=lambda loss: loss.backward())["loss"])
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_corpus_file_is_split_into_training_and_held_out_passages(tiny, model_dir: Path, tmp_path: Path):
    corpus = tmp_path / "corpus.tsv"
    lines = [f"{number}\t{text}\ttitle" for number, text in enumerate(tiny.themed_texts(50))]
    corpus.write_text("id\ttext\ttitle\n" + "\n".join(lines) + "\n")
    options = ContrieverOptions(CropPolicy())
    task = ContrieverTask.from_files(tiny.encoder(model_dir), data=DataFiles(str(corpus)), options=options)
    assert len(task.items) == 45
    assert sorted([*task.items, *task._dev]) == sorted(tiny.themed_texts(50))
    assert json.dumps(task.settings)
    with pytest.raises(ConfigError, match="data.train=CORPUS_FILE or index_dir=DIR"):
        ContrieverTask.from_files(tiny.encoder(model_dir), data=DataFiles(), options=options)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.6, 0.5), "0 < shortest <= longest <= 1, not 0.6 and 0.5"),
        ((0.0, 0.5), "0 < shortest"),
        ((0.1, 1.5), "longest <= 1"),
        ((0.1, 0.5, 1.0), "delete must be at least 0 and below 1"),
        ((0.1, 0.5, -0.1), "delete must be at least 0 and below 1"),
    ],
)
def test_crop_policies_that_make_no_sense_are_refused(values: tuple[float, ...], message: str):
    with pytest.raises(ConfigError, match=message):
        CropPolicy(*values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"queue": -1}, "queue and held_out must be 0 or more: -1, 256"),
        ({"held_out": -5}, "queue and held_out must be 0 or more: 0, -5"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, not 1.0"),
        ({"momentum": -0.1}, "momentum must be at least 0 and below 1"),
    ],
)
def test_contriever_options_that_make_no_sense_are_refused(values: dict[str, float], message: str):
    """Guards against held_out=-5, which would evaluate on nearly all passages and train on five."""
    with pytest.raises(ConfigError, match=message):
        ContrieverOptions(CropPolicy(), **values)


def test_a_queue_that_cannot_follow_is_refused():
    with pytest.raises(ConfigError, match="momentum"):
        MomentumQueue(torch.nn.Linear(1, 1), dim=1, size=1, momentum=1.0)


def test_untrained_scores_are_not_all_equal(tiny, model_dir: Path):
    """The other control: pessimistic ranks would call a collapsed encoder bad; this one is merely untrained."""
    encoder = tiny.encoder(model_dir)
    vectors = encoder.encode_queries(tiny.themed_texts(6))
    assert np.std(vectors @ vectors.T) > 1e-3
