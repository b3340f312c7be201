"""Property 12: pooling is unchanged by extra padding."""

from __future__ import annotations

import hypothesis.strategies as st
import torch
from hypothesis import given

from ragkit.retriever.pooling import POOLERS


@given(
    name=st.sampled_from(sorted(POOLERS)),
    tokens=st.integers(1, 6),
    padding=st.integers(0, 6),
    seed=st.integers(0, 1000),
    left=st.booleans(),
)
def test_extra_padding_does_not_move_a_vector(name: str, tokens: int, padding: int, seed: int, left: bool):
    """A vector that depends on its batch's longest member makes scores depend on the neighbours."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(1, tokens, 4, generator=generator)
    noise, mask = torch.randn(1, padding, 4, generator=generator), torch.ones(1, tokens, dtype=torch.int64)
    none = torch.zeros(1, padding, dtype=torch.int64)
    padded = torch.cat([noise, states] if left else [states, noise], dim=1)
    padded_mask = torch.cat([none, mask] if left else [mask, none], dim=1)
    torch.testing.assert_close(POOLERS[name](padded, padded_mask), POOLERS[name](states, mask))


@given(name=st.sampled_from(sorted(POOLERS)), seed=st.integers(0, 1000))
def test_the_control_an_unmasked_token_does_move_it(name: str, seed: int):
    """Without this a pooler that returned a constant would pass."""
    generator = torch.Generator().manual_seed(seed)
    states, mask = torch.randn(1, 3, 4, generator=generator), torch.ones(1, 3, dtype=torch.int64)
    moved = POOLERS[name](states + 1.0, mask)
    torch.testing.assert_close(moved, POOLERS[name](states, mask) + 1.0)
