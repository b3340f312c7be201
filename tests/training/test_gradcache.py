"""GradCache gives the gradient of the whole batch, dropout and bfloat16 included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ragkit.losses import contrastive
from ragkit.training.gradcache import cached_backward

CPU = torch.device("cpu")


def _model() -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.4), nn.Linear(16, 8))
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.4
    return model.train()


def _chunks(model: nn.Module, sizes: list[int]) -> list[Callable[[], Tensor]]:
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(size, 6, generator=generator) for size in sizes]
    return [lambda rows=rows: model(rows) for rows in inputs]


def _loss(vectors: list[Tensor]) -> Tensor:
    return contrastive(vectors[0], vectors[1], torch.arange(len(vectors[0])), temperature=0.5)


def _gradients(model: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def _uncached(groups: list[list[Callable[[], Tensor]]]) -> Tensor:
    """The same chunks in the same order, so the same dropout, with every graph kept."""
    loss = _loss([torch.cat([encode() for encode in group]) for group in groups])
    loss.backward()
    return loss.detach()


def test_gradient_equals_the_uncached_with_dropout_on():
    """Guards the replay of random numbers: another mask in the second pass gives another gradient."""
    one, other = _model(), _model()
    state = torch.random.get_rng_state()
    wanted = _uncached([_chunks(one, [3, 3, 1]), _chunks(one, [4, 4, 4])])
    torch.random.set_rng_state(state)
    groups = [_chunks(other, [3, 3, 1]), _chunks(other, [4, 4, 4])]
    loss = cached_backward(groups, _loss, backward=lambda value: value.backward(), device=CPU)
    torch.testing.assert_close(loss, wanted)
    assert not loss.requires_grad
    for found, exact in zip(_gradients(other), _gradients(one), strict=True):
        torch.testing.assert_close(found, exact, atol=1e-5, rtol=1e-5)
        assert exact.abs().max() > 1e-3


def test_another_dropout_gives_another_gradient():
    """The control: without the same random numbers the comparison above fails by far."""
    one, other = _model(), _model()
    _uncached([_chunks(one, [3, 3, 1]), _chunks(one, [4, 4, 4])])
    _uncached([_chunks(other, [3, 3, 1]), _chunks(other, [4, 4, 4])])
    assert max(float((a - b).abs().max()) for a, b in zip(_gradients(one), _gradients(other), strict=True)) > 1e-2


def test_random_numbers_after_it_are_those_after_one_forward_pass():
    """Guards against a second pass that moves the generators on: the rest of the step would differ."""
    model = _model()
    state = torch.random.get_rng_state()
    _uncached([_chunks(model, [4]), _chunks(model, [6])])
    wanted = torch.rand(3)
    torch.random.set_rng_state(state)
    groups = [_chunks(model, [4]), _chunks(model, [6])]
    cached_backward(groups, _loss, backward=lambda value: value.backward(), device=CPU)
    assert torch.equal(torch.rand(3), wanted)


def test_weights_get_their_gradient_under_autocast():
    """Guards against autocast's cache: weights cast in the pass without gradient would be used again, detached."""
    one, other = _model().eval(), _model().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _uncached([_chunks(one, [4, 3]), _chunks(one, [6, 6])])
        groups = [_chunks(other, [4, 3]), _chunks(other, [6, 6])]
        cached_backward(groups, _loss, backward=lambda value: value.backward(), device=CPU)
    assert len(_gradients(other)) == len(list(other.parameters()))
    for found, exact in zip(_gradients(other), _gradients(one), strict=True):
        torch.testing.assert_close(found, exact, atol=2e-2, rtol=5e-2)


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_weight_of_the_loss_reaches_the_encoders(weight: float):
    """Guards accumulation: the share of a part must scale the gradient of the vectors too."""
    one, other = _model().eval(), _model().eval()
    _uncached([_chunks(one, [4]), _chunks(one, [6])])
    groups = [_chunks(other, [2, 2]), _chunks(other, [5, 1])]
    cached_backward(groups, _loss, backward=lambda value: (value * weight).backward(), device=CPU)
    # the chunks differ from the uncached ones in size only where their inputs are drawn in one go
    whole = [parameter.grad for parameter in one.parameters()]
    part = [parameter.grad for parameter in other.parameters()]
    assert all(grad is not None for grad in (*whole, *part))
    again = _model().eval()
    _uncached([_chunks(again, [2, 2]), _chunks(again, [5, 1])])
    for found, exact in zip(_gradients(other), _gradients(again), strict=True):
        torch.testing.assert_close(found, exact * weight, atol=1e-5, rtol=1e-5)
