"""What every loss must satisfy whatever the numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.losses import contrastive, distillation_kl, marginal_nll

SEEDS = st.integers(0, 2**31 - 1)
SIZES = st.tuples(st.integers(1, 5), st.integers(2, 7))


def _two(seed: int, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = (3 * torch.randn(*size, generator=generator) for _ in range(2))
    return first, second, torch.randperm(size[1], generator=generator)


@pytest.mark.parametrize("loss", [distillation_kl, marginal_nll])
@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, size=SIZES)
def test_order_of_passages_changes_no_loss_but_a_lone_reordering_does(loss, seed: int, size: tuple[int, int]):
    scores, answers, order = _two(seed, size)
    torch.testing.assert_close(loss(scores, answers), loss(scores[:, order], answers[:, order]), atol=1e-4, rtol=1e-4)
    if not torch.equal(order, torch.arange(size[1])):
        assert loss(scores, answers) != loss(scores, answers[:, order])


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, size=SIZES, temperature=st.floats(0.05, 5))
def test_contrastive_does_not_depend_on_the_order_of_passages(seed: int, size: tuple[int, int], temperature: float):
    queries, passages, _ = _two(seed, size)
    passages = passages if len(passages) > 1 else torch.cat([passages, -passages])
    order = torch.randperm(len(passages), generator=torch.Generator().manual_seed(seed))
    positives = torch.arange(len(queries)) % len(passages)
    moved = torch.argsort(order)[positives]
    one = contrastive(queries, passages, positives, temperature=temperature)
    torch.testing.assert_close(
        one, contrastive(queries, passages[order], moved, temperature=temperature), atol=1e-3, rtol=1e-4
    )
    assert one >= 0


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, size=SIZES, shift=st.floats(-20, 20))
def test_distillation_is_never_negative_is_zero_at_the_target_and_ignores_a_shift(
    seed: int, size: tuple[int, int], shift: float
):
    scores, feedback, _ = _two(seed, size)
    loss = distillation_kl(scores, feedback)
    assert loss > 0
    assert distillation_kl(feedback + shift, feedback).item() == pytest.approx(0, abs=1e-4)
    torch.testing.assert_close(distillation_kl(scores, feedback + shift), loss, atol=1e-4, rtol=1e-4)
