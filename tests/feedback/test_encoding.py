"""Passages that are encoded once, for every signal."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from ragkit.errors import ConfigError, InputError
from ragkit.feedback import AnsweredQuestions, attention, encoded, leave_one_out, likelihood
from ragkit.training.objectives import FeedbackObjective, ObjectiveSum, Retrieved, Weighted
from ragkit.training.scoring import score_passages
from ragkit.types import Passage


@pytest.fixture(scope="module")
def world(worlds):
    return worlds.make_world(worlds.Size(entities=30, words=12, name=2, values=8))


@pytest.fixture
def asked(world) -> AnsweredQuestions:
    """Questions with four, one and two passages."""
    examples, p = world.examples[:3], world.passages
    return AnsweredQuestions([e.question for e in examples], [p[:4], p[4:5], p[5:7]], [e.answers[0] for e in examples])


def counted(reader) -> list[int]:
    """Fills with the number of inputs in each pass of the reader's encoder."""
    seen: list[int] = []
    reader.model.get_encoder().register_forward_pre_hook(
        lambda _, __, given: seen.append(len(given["input_ids"])), with_kwargs=True
    )
    return seen


SIGNALS = {
    "likelihood": likelihood,
    "by token": partial(likelihood, by_token=True),
    "leave one out": leave_one_out,
    "attention": attention,
}


@pytest.mark.parametrize("budget", [8192, 24])
@pytest.mark.parametrize("signal", SIGNALS)
def test_every_signal_is_the_same_from_passages_encoded_once(models, world, asked, signal: str, budget: int):
    """Silent failure: states of another passage; and memory that grows with the batch, so a small budget is tried."""
    reader = models.make_reader(world, dim=32).train()
    reader.batch_tokens = budget
    wanted = SIGNALS[signal](reader, asked)
    kept = encoded(reader, asked)
    seen = counted(reader)
    found = SIGNALS[signal](reader, kept)
    assert seen == []
    assert reader.training
    assert kept.memory is not None
    assert not kept.memory.states.requires_grad
    torch.testing.assert_close(found.values, wanted.values, atol=1e-5, rtol=1e-5)
    some = SIGNALS[signal](reader, kept.take([2, 0]))
    torch.testing.assert_close(some.values, SIGNALS[signal](reader, asked.take([2, 0])).values, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(some.values[1, :2], found.values[2, :2])  # the control: rows are not taken at random


def test_objectives_of_a_sum_ask_a_frozen_reader_with_one_pass_of_its_encoder(models, world, asked):
    """Silent failure: every signal reads all passages again, or an objective of weight 0 is asked too."""
    reader, encoder = models.make_reader(world, dim=32), models.make_retriever(world, dim=16)
    loss = lambda scores, _, **__: scores.logsumexp(dim=-1).mean()  # noqa: E731
    one, other = FeedbackObjective(likelihood, loss), FeedbackObjective(leave_one_out, loss)
    asked = asked.take([0, 2])
    found = Retrieved(*score_passages(encoder, asked), asked, world.examples[:2], reader, encoder)
    seen = counted(reader)

    def passes(objective) -> list[int]:
        seen.clear()
        objective(found)
        return list(seen)

    assert passes(ObjectiveSum({"ldist": Weighted(one), "lool": Weighted(other)})) == [6]
    assert passes(one) == [6]
    assert passes(ObjectiveSum({"ldist": Weighted(one), "lool": Weighted(other, 0.0)})) == [6]
    assert found.asked.memory is None
    one(found)
    assert seen == [6, 6]  # the control: one after the other they read all six each time


def test_a_reader_without_encodings_of_its_own_is_asked_as_before(rules):
    reader = rules.RuleReader({"x": [frozenset("0")]})
    asked = AnsweredQuestions(["a"], [[Passage("0", "text")]], ["x"])
    assert encoded(reader, asked) is asked


def test_a_memory_of_other_questions_or_for_another_reader_is_refused(models, world, asked, rules):
    memory = encoded(models.make_reader(world, dim=32), asked).memory
    with pytest.raises(InputError, match="1 questions with a memory of 3"):
        AnsweredQuestions(asked.questions[:1], asked.passages[:1], asked.answers[:1], memory)
    whole = AnsweredQuestions(asked.questions, asked.passages, asked.answers, memory)
    with pytest.raises(ConfigError, match="RuleReader takes no encoded passages"):
        likelihood(rules.RuleReader({}), whole)
