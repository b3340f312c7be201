"""The distillation loss: its value, its reduction, its gradient and its mask."""

from __future__ import annotations

import pytest
import torch

from ragkit.losses import distillation_kl


def test_ldist_target_of_log_likelihoods_worked_by_hand():
    """Log-likelihoods (-1, -3, -3) give the target (0.787, 0.106, 0.106), at which the loss is 0."""
    feedback = torch.tensor([[-1.0, -3.0, -3.0]])
    target = feedback.softmax(-1)
    torch.testing.assert_close(target, torch.tensor([[0.7870, 0.1065, 0.1065]]), atol=1e-4, rtol=0)
    assert distillation_kl(target.log(), feedback).item() == pytest.approx(0.0, abs=1e-6)
    by_hand = sum(t * (torch.tensor(t).log().item() - torch.tensor(1 / 3).log().item()) for t in target[0].tolist())
    assert distillation_kl(torch.zeros(1, 3), feedback).item() == pytest.approx(by_hand, abs=1e-6)


def test_gradient_is_p_minus_target_over_temperature_and_queries_never_over_passages():
    """Guards against PyTorch's default reduction, which divides by the passages too (the Atlas scaling)."""
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(4, 6, generator=generator, requires_grad=True)
    feedback = torch.randn(4, 6, generator=generator)
    distillation_kl(scores, feedback, temperature=0.5, feedback_temperature=2.0).backward()
    wanted = ((scores / 0.5).softmax(-1) - (feedback / 2.0).softmax(-1)) / 0.5 / 4
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, wanted.detach())


def test_direction_is_feedback_to_retriever_not_the_reverse():
    """Guards against a swapped KL: the two differ by more than rounding on a skewed pair."""
    scores, feedback = torch.tensor([[0.0, 2.0, -1.0]]), torch.tensor([[3.0, 0.0, 0.0]])
    p, target = scores.softmax(-1), feedback.softmax(-1)
    forward = (target * (target.log() - p.log())).sum()
    reverse = (p * (p.log() - target.log())).sum()
    torch.testing.assert_close(distillation_kl(scores, feedback), forward)
    assert abs(forward.item() - reverse.item()) > 0.1


def test_no_gradient_reaches_the_feedback():
    """Guards the isolation of the reader from the retriever's loss."""
    scores, feedback = torch.zeros(1, 3, requires_grad=True), torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
    distillation_kl(scores, feedback).backward()
    assert feedback.grad is None
    assert scores.grad is not None
    assert scores.grad.abs().max() > 0.1


def test_missing_hits_count_as_if_they_were_not_there():
    """Guards against nan from -inf minus -inf, in the value and in the gradient."""
    scores = torch.tensor([[0.3, -1.0, -torch.inf], [-torch.inf, -torch.inf, -torch.inf]], requires_grad=True)
    feedback = torch.tensor([[1.0, 0.0, -torch.inf], [-torch.inf, -torch.inf, -torch.inf]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    loss = distillation_kl(scores, feedback, mask=mask)
    loss.backward()
    torch.testing.assert_close(loss, distillation_kl(scores[:1, :2], feedback[:1, :2]))
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert (scores.grad[0, 2] == 0) & (scores.grad[1] == 0).all()
    assert scores.grad[0, 0] != 0


def test_feedback_of_minus_infinity_has_probability_zero_without_a_mask():
    """Guards 0 log 0 = 0: a passage the reader gives no chance must not turn the loss into nan."""
    loss = distillation_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -torch.inf]]))
    assert loss.item() == pytest.approx(0.6931, abs=1e-4)
