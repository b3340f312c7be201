"""DPR's training: the loss over all processes' passages, false negatives, dev figures, and a run from end to end."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ragkit.errors import ConfigError
from ragkit.losses import contrastive
from ragkit.retriever import DualEncoder
from ragkit.seeding import make_generator
from ragkit.training.dpr import DprOptions, DprTask
from ragkit.training.loop import train
from ragkit.training.policy import ComputePolicy, OptimizerPolicy, SavePolicy, TrainPolicy
from ragkit.training.pool import gold_ranks
from ragkit.types import Example, Passage


def _policy(steps: int, *, batch_size: int = 8, save: SavePolicy | None = None) -> TrainPolicy:
    return TrainPolicy(
        steps=steps,
        batch_size=batch_size,
        compute=ComputePolicy(device="cpu", dtype="float32"),
        optimizer=OptimizerPolicy(learning_rate=3e-3),
        save=save or SavePolicy(metric="mrr", eval_every=steps),
    )


def test_loss_is_that_of_the_formula_over_positives_and_hard_negatives(tiny, model_dir: Path):
    """Guards the order of the passages against the positives' numbers, and the mean over questions."""
    encoder = tiny.encoder(model_dir).eval()
    examples = tiny.questions(6)
    task = DprTask(
        encoder, train=examples, options=DprOptions(draw="first"), loss=partial(contrastive, temperature=2.0)
    )
    figures = task.backward(task.collate(examples, generator=make_generator(0)), backward=lambda loss: loss.backward())
    queries = torch.from_numpy(encoder.encode_queries([example.question for example in examples]))
    own = [example.positives[0] for example in examples] + [example.hard_negatives[0] for example in examples]
    scores = queries @ torch.from_numpy(encoder.encode_passages(own)).T / 2.0
    by_hand = -scores.log_softmax(-1)[torch.arange(6), torch.arange(6)].mean()
    assert figures["loss"] == pytest.approx(by_hand.item(), abs=1e-5)


def test_another_positive_of_the_same_question_is_no_negative(tiny, model_dir: Path):
    """Guards false negatives: two questions that share a passage would push it away from one of them."""
    encoder = tiny.encoder(model_dir).eval()
    shared, other = Passage("s", "fox of the river"), Passage("o", "old stone hill")
    examples = [Example("a", "who fox", ("x",), (shared,)), Example("b", "what river", ("x",), (other, shared))]
    task = DprTask(encoder, train=examples, options=DprOptions(draw="first"))
    loss = task.backward(task.collate(examples, generator=make_generator(0)), backward=lambda _: None)["loss"]
    queries = torch.from_numpy(encoder.encode_queries(["who fox", "what river"]))
    scores = queries @ torch.from_numpy(encoder.encode_passages([shared, other])).T
    first = -scores[0].log_softmax(-1)[0]  # the second question's loss is 0: nothing is left but its positive
    assert loss == pytest.approx(first.item() / 2, abs=1e-5)
    unmasked = torch.nn.functional.cross_entropy(scores, torch.arange(2)).item()
    assert abs(unmasked - loss) > 1e-3


def test_two_processes_have_the_loss_and_gradient_of_one(tiny, model_dir: Path, run_script, tmp_path: Path):
    """Guards the gather: without gradient through it, or with the mean of means, the gradient differs.

    With and without GradCache, and with 7 questions, which two processes cannot share evenly.
    """
    path = tmp_path / "two.json"
    finished = run_script("tiny", model_dir, path, processes=2)
    assert finished.returncode == 0, finished.stderr
    for case, two in json.loads(path.read_text()).items():
        task = DprTask(tiny.encoder(model_dir).eval(), train=tiny.questions())
        loss, gradient = tiny.gradient(task, size=int(case.split()[1]))
        assert two["loss"] == pytest.approx(loss, abs=1e-5)
        assert two["gradient"].keys() == gradient.keys()
        for name, values in gradient.items():
            np.testing.assert_allclose(two["gradient"][name], values, atol=1e-5, err_msg=f"{case}: {name}")
        assert max(abs(value) for values in gradient.values() for value in values) > 1e-2


def test_local_negatives_alone_would_give_another_gradient(tiny, model_dir: Path):
    """The control: halves of the batch, each with its own passages, do not give the gradient of the whole."""
    task = DprTask(tiny.encoder(model_dir).eval(), train=tiny.questions())
    _, whole = tiny.gradient(task, size=8)
    task.encoder.zero_grad()
    for half in (task.items[:4], task.items[4:8]):
        batch = task.collate(half, generator=make_generator(0, "draw"))
        task.backward(batch, backward=lambda loss: (loss / 2).backward())
    largest = max(
        float((p.grad - torch.tensor(whole[name]).view_as(p)).abs().max())
        for name, p in task.encoder.named_parameters()
        if p.grad is not None
    )
    assert largest > 1e-3


@pytest.mark.parametrize("shared", [True, False])
def test_gradcache_gives_the_gradient_of_the_uncached_step(tiny, model_dir: Path, shared: bool):
    plain, cached = (
        DprTask(tiny.encoder(model_dir, shared=shared).eval(), train=tiny.questions(), options=DprOptions(chunk=chunk))
        for chunk in (None, 3)
    )
    (loss, wanted), (found_loss, found) = (tiny.gradient(task, size=8) for task in (plain, cached))
    assert found_loss == pytest.approx(loss, abs=1e-5)
    assert found.keys() == wanted.keys()
    for tower in ("towers.shared.",) if shared else ("towers.query.", "towers.passage."):
        largest = max(abs(value) for name, values in found.items() if name.startswith(tower) for value in values)
        assert largest > 1e-4, tower
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)


def test_training_lowers_the_loss_and_raises_the_dev_rank(tiny, model_dir: Path, tmp_path: Path):
    """Guards the whole: an encoder that starts near chance must find passages of questions it never saw."""
    task = DprTask(tiny.encoder(model_dir), train=tiny.questions(64), dev=tiny.questions(24, seed=1))
    before = task.evaluate()
    result = train(task, _policy(80, batch_size=16), tmp_path)
    assert result.figures["mrr"] > before["mrr"] + 0.15
    assert result.figures["average_rank"] < before["average_rank"]
    saved = DualEncoder.from_pretrained(str(tmp_path / "retriever"), device="cpu", dtype="float32")
    texts = [example.question for example in task.items[:4]]
    np.testing.assert_allclose(saved.encode_queries(texts), task.encoder.encode_queries(texts), atol=1e-6)


def test_a_killed_run_with_dropout_resumes_to_the_same_losses(tiny, model_dir: Path, toy, tmp_path: Path):
    """The loop's promise for a real encoder: stopping after step 3 changes no later loss by a bit."""

    def run(out: Path, stop: int | None = None) -> dict[int, float]:
        task = DprTask(tiny.encoder(model_dir), train=tiny.questions(), options=DprOptions(chunk=5))
        if stop:
            whole_backward = task.backward

            def die(batch, *, backward):
                if len(toy.losses(out)) == stop:
                    raise KeyboardInterrupt
                return whole_backward(batch, backward=backward)

            task.backward = die
        train(task, _policy(7, save=SavePolicy(save_every=2)), out)
        return toy.losses(out)

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop=3)
    assert len(toy.losses(tmp_path / "cut")) == 3
    assert run(tmp_path / "cut") == whole


def test_resuming_with_other_questions_is_refused(tiny, model_dir: Path, tmp_path: Path):
    from ragkit.errors import CheckpointError

    train(DprTask(tiny.encoder(model_dir), train=tiny.questions()), _policy(2, save=SavePolicy()), tmp_path)
    with pytest.raises(CheckpointError, match=r"task.data: the checkpoint has"):
        train(DprTask(tiny.encoder(model_dir), train=tiny.questions(seed=3)), _policy(2, save=SavePolicy()), tmp_path)


def test_equal_scores_count_against_the_gold_passage():
    """Guards against a collapsed encoder that looks perfect: with all vectors the same the gold ranks last."""
    gold = torch.tensor([[True, False, False], [False, True, True]])
    assert gold_ranks(torch.zeros(2, 3), gold).tolist() == [3, 2]
    assert gold_ranks(torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 4.0]]), gold).tolist() == [1, 1]


def test_options_that_make_no_sense_are_named():
    with pytest.raises(ConfigError, match="chunk must be 1"):
        DprOptions(chunk=0)
    with pytest.raises(ConfigError, match="0 or more"):
        DprOptions(negatives=-1)


def test_a_batch_with_nothing_to_tell_apart_is_refused(tiny, model_dir: Path):
    """Guards against a loss of 0 at every step: one question, no negatives, no other questions."""
    lonely = [Example("a", "who fox", ("x",), (Passage("p", "fox"),))]
    with pytest.raises(ConfigError, match="nothing to tell apart"):
        DprTask(tiny.encoder(model_dir), train=lonely)
