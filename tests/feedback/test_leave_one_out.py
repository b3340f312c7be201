"""What the answer loses without each passage, as LOOL takes it."""

from __future__ import annotations

import math

import torch

from ragkit.feedback import AnsweredQuestions, leave_one_out
from ragkit.types import Passage

PASSAGES = [Passage(str(number), f"text {number}") for number in range(3)]


def test_the_passage_that_the_answer_needs_has_the_largest_feedback(rules):
    """Guards the sign: with it turned, the one passage that matters is the one that is pushed away."""
    reader = rules.RuleReader({"x": [frozenset({"1"})]})
    found = leave_one_out(reader, AnsweredQuestions(["a"], [PASSAGES], ["x"])).values
    torch.testing.assert_close(found, -torch.tensor([[math.log(0.9), math.log(0.01), math.log(0.9)]]))
    mean = leave_one_out(reader, AnsweredQuestions(["a"], [PASSAGES], ["x"]), normalize="mean").values
    torch.testing.assert_close(mean, found / 2)


def test_passages_are_encoded_once_and_the_sets_decoded_together(worlds, models):
    """Guards the cost: the obvious form encodes all but one passage for every passage, k (k - 1) in place of k."""
    world = worlds.make_world(worlds.Size(entities=30, words=12, name=2, values=8))
    reader = models.make_reader(world, dim=32)
    encoded: list[int] = []
    decoded: list[int] = []

    reader.model.get_encoder().register_forward_hook(lambda _module, _given, out: encoded.append(len(out[0])))
    reader.model.get_decoder().register_forward_hook(lambda _module, _given, out: decoded.append(len(out[0])))
    asked = AnsweredQuestions([world.examples[0].question], [world.passages[:5]], [world.examples[0].answers[0]])
    found = leave_one_out(reader, asked).values
    assert found.shape == (1, 5)
    assert sum(encoded) == 5
    assert decoded == [5]
