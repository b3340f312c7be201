"""ragkit.retriever.pooling."""

from __future__ import annotations

import pytest
import torch

from ragkit.retriever.pooling import POOLERS, cls, last, mean

STATES = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]])
RIGHT = torch.tensor([[1, 1, 0]])
LEFT = torch.tensor([[0, 1, 1]])


def test_mean_is_over_the_real_tokens_only():
    """A mean that divides by the padded length shrinks short passages' vectors and their inner products."""
    assert mean(STATES, RIGHT).tolist() == [[2.0, 4.0]]
    assert mean(STATES, torch.ones_like(RIGHT)).tolist() != [[2.0, 4.0]]


def test_cls_and_last_find_the_real_tokens_on_either_side_of_the_padding():
    """Position 0 or -1 of a padded batch is a padding token on one of the two sides."""
    assert cls(STATES, RIGHT).tolist() == [[1.0, 2.0]]
    assert last(STATES, RIGHT).tolist() == [[3.0, 6.0]]
    assert cls(STATES, LEFT).tolist() == [[3.0, 6.0]]
    assert last(STATES, LEFT).tolist() == [[100.0, 100.0]]


@pytest.mark.parametrize("name", sorted(POOLERS))
def test_a_padding_state_that_is_not_finite_does_not_reach_the_vector(name: str):
    """Multiplying by a zero mask turns an infinite padding state into NaN for the whole passage."""
    states = STATES.clone()
    states[0, 2] = torch.inf
    assert torch.isfinite(POOLERS[name](states, RIGHT)).all()


@pytest.mark.parametrize("name", sorted(POOLERS))
def test_vectors_are_float32_whatever_the_states_are(name: str):
    """A bfloat16 vector loses the digits that order close passages."""
    assert POOLERS[name](STATES.bfloat16(), RIGHT).dtype == torch.float32


def test_a_text_of_padding_only_has_a_defined_mean():
    """0 / 0 would put a NaN into the index."""
    assert mean(STATES, torch.zeros_like(RIGHT)).tolist() == [[0.0, 0.0]]
