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
