"""The marginal likelihood: enumeration, its lower bound, its gradient and its two forms."""

from __future__ import annotations

import pytest
import torch

from ragkit.losses import distillation_kl, marginal_nll


def test_marginal_nll_gradient_is_prior_minus_posterior():
    """EMDR2's identity; guards the stop-gradient and the use of the prior in the posterior."""
    scores = torch.tensor([[0.3, -1.2, 0.8]], requires_grad=True)
    answer = torch.tensor([[-2.0, -0.1, -3.0]], requires_grad=True)
    marginal_nll(scores, answer, temperature=0.5).backward()
    prior = (scores / 0.5).softmax(-1)
    posterior = ((scores / 0.5).log_softmax(-1) + answer).softmax(-1)
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, ((prior - posterior) / 0.5).detach())
    assert answer.grad is None


def test_sequence_form_is_the_enumerated_sum_over_passages():
    """Guards the logsumexp: the plain sum of probabilities must come out."""
    scores = torch.tensor([[0.3, -1.2], [2.0, 0.0]])
    likelihood = torch.tensor([[[0.5, 0.2], [0.9, 0.9]], [[0.1, 0.3], [0.7, 0.6]]])
    p = scores.softmax(-1)
    by_hand = -(p * likelihood.prod(dim=-1)).sum(dim=-1).log().mean()
    torch.testing.assert_close(marginal_nll(scores, likelihood.log()), by_hand)


def test_token_form_is_the_product_of_mixtures_and_differs_from_the_sequence_form():
    scores = torch.tensor([[0.3, -1.2]])
    likelihood = torch.tensor([[[0.5, 0.2], [0.9, 0.9]]])
    mixtures = (scores.softmax(-1)[:, :, None] * likelihood).sum(dim=1)
    token = marginal_nll(scores, likelihood.log(), granularity="token")
    torch.testing.assert_close(token, -mixtures.log().mean())
    assert abs(2 * token.item() - marginal_nll(scores, likelihood.log()).item()) > 0.01


def test_one_token_answers_have_the_same_marginal_in_both_forms():
    scores = torch.tensor([[0.3, -1.2, 0.5]])
    likelihood = torch.tensor([[[0.5], [0.9], [0.01]]]).log()
    torch.testing.assert_close(marginal_nll(scores, likelihood), marginal_nll(scores, likelihood, granularity="token"))


@pytest.mark.parametrize("granularity", ["sequence", "token"])
def test_padding_tokens_count_for_nothing_even_if_they_are_nan(granularity: str):
    """Guards against multiplying by the mask: 0 times nan is nan."""
    scores = torch.tensor([[0.3, -1.2]], requires_grad=True)
    answer = torch.tensor([[[-0.5, torch.nan], [-0.9, -7.0]]])
    mask = torch.tensor([[True, False]])
    loss = marginal_nll(scores, answer, granularity=granularity, token_mask=mask)
    torch.testing.assert_close(loss, marginal_nll(scores, answer[:, :, :1], granularity=granularity))


def test_corpus_normalised_marginal_is_a_lower_bound_that_grows_to_the_exact_value():
    """The top-k renormalised over itself is no bound: the control shows it can overshoot."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, 30, generator=generator).sort(descending=True).values
    answer = torch.randn(1, 30, generator=generator).sort(descending=True).values - 3
    values = []
    for k in range(1, 31):
        rest = scores[:, k:].logsumexp(dim=-1, keepdim=True)  # -inf for an empty rest
        with_rest = torch.cat([scores[:, :k], rest], dim=1)
        values.append(-marginal_nll(with_rest, torch.cat([answer[:, :k], torch.tensor([[-torch.inf]])], dim=1)).item())
    exact = -marginal_nll(scores, answer).item()
    assert all(later >= earlier for earlier, later in zip(values, values[1:], strict=False))
    assert values[-1] == pytest.approx(exact, abs=1e-5)
    assert -marginal_nll(scores[:, :3], answer[:, :3]).item() > exact + 0.1


def test_finite_at_a_log_likelihood_of_minus_one_thousand():
    """Guards against leaving log space: exp(-1000) is 0 in float32."""
    scores = torch.tensor([[0.0, 1.0]], requires_grad=True)
    loss = marginal_nll(scores, torch.tensor([[-1000.0, -1001.0]]))
    loss.backward()
    assert 1000 < loss.item() < 1001
    assert scores.grad is not None
    assert scores.grad.abs().max() > 0.01


def test_uniform_retriever_makes_emdr2_and_ldist_gradients_equal():
    answer = torch.tensor([[-1.0, -3.0, -2.0]])
    gradients = []
    for loss in (marginal_nll, distillation_kl):
        scores = torch.zeros(1, 3, requires_grad=True)
        loss(scores, answer).backward()
        gradients.append(scores.grad)
    torch.testing.assert_close(*gradients)


def test_missing_hit_has_no_probability_and_no_gradient():
    scores = torch.tensor([[0.3, 0.1, -torch.inf]], requires_grad=True)
    answer = torch.tensor([[-1.0, -2.0, -0.1]])
    loss = marginal_nll(scores, answer)
    loss.backward()
    torch.testing.assert_close(loss, marginal_nll(scores[:, :2], answer[:, :2]))
    assert scores.grad is not None
    assert scores.grad[0, 2] == 0
    assert torch.isfinite(scores.grad).all()


def test_token_form_refuses_whole_answer_likelihoods():
    with pytest.raises(ValueError, match="token"):
        marginal_nll(torch.zeros(1, 2), torch.zeros(1, 2), granularity="token")
