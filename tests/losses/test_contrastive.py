"""The contrastive loss: its formula, its mask and its gradients."""

from __future__ import annotations

import pytest
import torch

from ragkit.losses import contrastive


def _vectors(queries: int = 3, passages: int = 5, dim: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(queries, dim, generator=generator), torch.randn(passages, dim, generator=generator)


def test_loss_is_the_formula_written_out_with_loops():
    """Guards the sign, the axis of the softmax and the mean over queries."""
    queries, passages = _vectors()
    positives = [4, 0, 2]
    by_hand = 0.0
    for q, positive in enumerate(positives):
        products = [float(queries[q] @ passage) / 0.3 for passage in passages]
        total = sum(torch.tensor(products, dtype=torch.float64).exp().tolist())
        by_hand -= float(torch.log(torch.tensor(products[positive], dtype=torch.float64).exp() / total)) / 3
    loss = contrastive(queries, passages, torch.tensor(positives), temperature=0.3)
    assert loss.item() == pytest.approx(by_hand, abs=1e-5)


def test_temperature_one_is_dpr_and_another_temperature_is_not():
    """Guards against a temperature that is not used."""
    queries, passages = _vectors()
    positives = torch.tensor([0, 1, 2])
    dpr = -(queries @ passages.T).log_softmax(-1)[torch.arange(3), positives].mean()
    torch.testing.assert_close(contrastive(queries, passages, positives), dpr)
    assert abs(contrastive(queries, passages, positives, temperature=0.5).item() - dpr.item()) > 0.05


def test_masked_passage_counts_as_if_it_were_not_there():
    """Guards against a mask that multiplies by zero: a score of 0 would still stand in the denominator."""
    queries, passages = _vectors()
    positives = torch.tensor([0, 1, 2])
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[:, 3:] = False
    masked = contrastive(queries, passages, positives, mask=mask)
    torch.testing.assert_close(masked, contrastive(queries, passages[:3], positives))
    assert contrastive(queries, passages, positives) > masked


def test_own_positive_counts_even_where_the_mask_hides_it():
    """Guards against an infinite loss when a mask of same passage ids covers the positive itself."""
    queries, passages = _vectors()
    positives = torch.tensor([0, 1, 2])
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[torch.arange(3), positives] = False
    torch.testing.assert_close(
        contrastive(queries, passages, positives, mask=mask), contrastive(queries, passages, positives)
    )


def test_gradient_reaches_every_query_and_passage_but_not_the_masked_one():
    """Guards against a detached tower, and against a gradient that leaks through the mask."""
    queries, passages = (vectors.requires_grad_() for vectors in _vectors())
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[:, 4] = False
    contrastive(queries, passages, torch.tensor([0, 1, 2]), mask=mask).backward()
    assert queries.grad is not None
    assert passages.grad is not None
    assert (queries.grad.abs().amax(dim=-1) > 1e-4).all()
    assert (passages.grad[:4].abs().amax(dim=-1) > 1e-4).all()
    assert (passages.grad[4] == 0).all()


def test_autocast_does_not_round_the_scores():
    """Guards against bfloat16 products: scores near 20 would be off by 0.1."""
    queries, passages = _vectors(dim=64)
    positives = torch.tensor([0, 1, 2])
    exact = contrastive(queries * 3, passages, positives)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert contrastive(queries * 3, passages, positives).item() == exact.item()
        rounded = torch.nn.functional.cross_entropy((queries * 3 @ passages.T).float(), positives)
    assert abs(rounded.item() - exact.item()) > 1e-4
