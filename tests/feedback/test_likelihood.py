"""The likelihood of the answer from each passage alone, as LDist and EMDR2 take it."""

from __future__ import annotations

import math

import pytest
import torch

from ragkit.errors import ConfigError, InputError
from ragkit.feedback import AnsweredQuestions, leave_one_out, likelihood
from ragkit.types import Passage

PASSAGES = [Passage(str(number), f"text {number}") for number in range(3)]


@pytest.fixture
def reader(rules):
    return rules.RuleReader({"x": [frozenset({"1"})], "y": [frozenset({"0"})]})


def test_likelihood_is_the_sum_or_the_mean_over_the_answers_tokens(reader):
    """Guards a mean taken for a sum: at temperature 1 the target of a two-token answer would be the square root."""
    asked = AnsweredQuestions(["a"], [PASSAGES], ["x"])
    known, unknown = math.log(0.9), math.log(0.01)
    torch.testing.assert_close(likelihood(reader, asked).values, torch.tensor([[unknown, known, unknown]]))
    torch.testing.assert_close(
        likelihood(reader, asked, normalize="mean").values, torch.tensor([[unknown, known, unknown]]) / 2
    )


def test_a_question_with_fewer_passages_has_minus_infinity_at_the_end(reader):
    """Guards padding that looks like log 1: the best feedback of all would go to a passage that is not there."""
    asked = AnsweredQuestions(["a", "b"], [PASSAGES, PASSAGES[:1]], ["x", "y"])
    for signal in (likelihood, leave_one_out):
        assert torch.isneginf(signal(reader, asked).values).tolist() == [[False] * 3, [False, True, True]]
    by_token = likelihood(reader, asked, by_token=True)
    assert by_token.values.shape == (2, 3, 2)
    assert by_token.token_mask is not None
    assert torch.isneginf(by_token.values[1, 1:]).all()
    torch.testing.assert_close(by_token.values[0].sum(dim=-1), likelihood(reader, asked).values[0])


def test_a_reader_that_cannot_judge_is_named():
    class Mute:
        def answer(self, questions, passages):
            return [questions, passages]

        def save_pretrained(self, folder):
            return folder

    with pytest.raises(ConfigError, match="Mute gives no likelihood"):
        likelihood(Mute(), AnsweredQuestions(["a"], [PASSAGES], ["x"]))


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(InputError, match="2 questions with 1 lists"):
        AnsweredQuestions(["a", "b"], [PASSAGES], ["x", "y"])
