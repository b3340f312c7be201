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


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, size=SIZES)
def test_distillation_has_no_gradient_at_the_target_and_only_there(seed: int, size: tuple[int, int]):
    """KL is flat where p = target; the control moves one passage's score by 1, which must move the gradient."""
    feedback = _two(seed, size)[0].tanh()
    moved = feedback.clone()
    moved[:, 0] += 1
    at_target, elsewhere = feedback.clone().requires_grad_(), moved.requires_grad_()
    for scores in (at_target, elsewhere):
        distillation_kl(scores, feedback).backward()
    assert at_target.grad is not None
    assert elsewhere.grad is not None
    assert at_target.grad.abs().max() < 1e-6
    assert (elsewhere.grad.abs().amax(dim=-1) > 1e-3).all()


def _prior(scores: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """p(z | question) as the marginal loss has it: the marginal of an answer that passage j alone gives is p(j)."""
    losses = [marginal_nll(scores, one[None], temperature=temperature) for one in torch.eye(scores.shape[1]).log()]
    return torch.stack(losses).neg().exp()


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, passages=st.integers(2, 7), temperature=st.floats(0.05, 5))
def test_prior_of_the_passages_is_the_softmax_of_their_scores(seed: int, passages: int, temperature: float):
    """Property 5, first half: guards a temperature that multiplies, and a prior that is not normalised."""
    scores = _two(seed, (1, passages))[0]
    prior = _prior(scores, temperature=temperature)
    torch.testing.assert_close(prior, (scores[0].double() / temperature).softmax(-1).float(), atol=1e-5, rtol=1e-4)
    assert prior.sum().item() == pytest.approx(1, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, passages=st.integers(2, 7))
def test_prior_becomes_the_argmax_as_the_temperature_goes_to_zero(seed: int, passages: int):
    """Property 5, second half, on scores 0.1 apart; the control is temperature 1, at which none is near certain."""
    scores = 0.1 * _two(seed, (1, passages))[2][None].float()
    wanted = torch.nn.functional.one_hot(scores[0].argmax(), passages).float()
    torch.testing.assert_close(_prior(scores, temperature=1e-3), wanted, atol=1e-6, rtol=0)
    assert _prior(scores, temperature=1.0).max() < 0.6


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, size=SIZES, temperature=st.floats(0.3, 5))
def test_adding_any_negative_raises_the_loss_of_every_query_and_a_masked_one_adds_nothing(
    seed: int, size: tuple[int, int], temperature: float
):
    """Guards against negatives that do not reach the denominator, each query by itself: a mean could hide one."""
    queries, passages = (torch.nn.functional.normalize(vectors, dim=-1) for vectors in _two(seed, size)[:2])
    negative = torch.nn.functional.normalize(_two(seed + 1, (1, size[1]))[0], dim=-1)
    more = torch.cat([passages, negative])
    mask = torch.arange(len(more))[None] < len(passages)
    for number, query in enumerate(queries):
        one, positive = query[None], torch.tensor([number])
        loss = contrastive(one, passages, positive, temperature=temperature)
        assert contrastive(one, more, positive, temperature=temperature) > loss + 1e-6
        masked = contrastive(one, more, positive, temperature=temperature, mask=mask)
        torch.testing.assert_close(masked, loss, atol=1e-6, rtol=1e-6)
