"""Knowledge distillation: its two ends, and the gradient that tau squared keeps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ragkit.errors import ConfigError
from ragkit.losses import distillation_kl, knowledge_distillation

SCORES = torch.tensor([[0.3, -1.2, 0.8], [1.0, 0.0, -0.5]])
FEEDBACK = torch.tensor([[2.0, 0.1, -3.0], [0.0, 0.4, 0.2]])
GOLD = torch.tensor([2, 0])


def test_alpha_zero_is_the_cross_entropy_and_alpha_one_tau_squared_kl():
    """Property 15; guards alpha on the wrong term, and a temperature that reaches the cross-entropy."""
    zero = knowledge_distillation(SCORES, FEEDBACK, GOLD, alpha=0.0, temperature=4.0)
    torch.testing.assert_close(zero, F.cross_entropy(SCORES, GOLD))
    one = knowledge_distillation(SCORES, FEEDBACK, GOLD, alpha=1.0, temperature=4.0)
    kl = distillation_kl(SCORES, FEEDBACK, temperature=4.0, feedback_temperature=4.0)
    torch.testing.assert_close(one, 16 * kl)
    half = knowledge_distillation(SCORES, FEEDBACK, GOLD, alpha=0.5, temperature=4.0)
    torch.testing.assert_close(half, (zero + one) / 2)


def test_tau_squared_keeps_the_scale_of_the_gradient():
    """Property 15: over 1 to 32 the norm changes little; without tau squared (the control) it falls a thousandfold."""

    def norm(temperature: float) -> float:
        scores = SCORES.clone().requires_grad_()
        knowledge_distillation(scores, FEEDBACK, GOLD, alpha=1.0, temperature=temperature).backward()
        assert scores.grad is not None
        return float(scores.grad.norm())

    assert 0.5 < norm(32.0) / norm(1.0) < 2
    assert norm(32.0) / 32**2 / norm(1.0) < 0.01


def test_no_gradient_reaches_the_feedback():
    feedback = FEEDBACK.clone().requires_grad_()
    knowledge_distillation(SCORES.clone().requires_grad_(), feedback, GOLD).backward()
    assert feedback.grad is None


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_alpha_outside_its_range_is_refused(alpha: float):
    with pytest.raises(ConfigError, match="alpha must be from 0"):
        knowledge_distillation(SCORES, FEEDBACK, GOLD, alpha=alpha)
