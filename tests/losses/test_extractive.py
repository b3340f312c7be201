"""DPR's reader loss, by hand and against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ragkit.losses.extractive import extractive, marginal_span, passage_selection


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    start, end = (torch.randn(2, 3, 6, generator=generator) for _ in range(2))
    selection = torch.randn(2, 3, generator=generator)
    return {"start": start, "end": end, "selection": selection}


SPANS = torch.tensor([[[1, 2], [4, 4], [-1, -1]], [[0, 5], [-1, -1], [-1, -1]]])


def _loop(start: Tensor, end: Tensor, selection: Tensor, *, positives: list[int]) -> float:
    """The definition, one probability at a time."""
    total = 0.0
    for query, positive in enumerate(positives):
        relevance = selection[query].exp() / selection[query].exp().sum()
        p_start = start[query, positive].exp() / start[query, positive].exp().sum()
        p_end = end[query, positive].exp() / end[query, positive].exp().sum()
        places = [(s, e) for s, e in SPANS[query].tolist() if s >= 0]
        total -= math.log(relevance[positive]) + math.log(sum(p_start[s] * p_end[e] for s, e in places))
    return total / len(positives)


@pytest.mark.parametrize("positives", [[0, 0], [2, 1]])
def test_loss_is_the_definition_computed_in_a_loop(batch: dict[str, Tensor], positives: list[int]):
    """Guards against taking the start logits of the wrong passage, or a product where the definition has a sum."""
    loss = extractive(**batch, spans=SPANS, positives=torch.tensor(positives))
    assert loss.item() == pytest.approx(_loop(**batch, positives=positives), rel=1e-5)


def test_two_spans_of_one_sixteenth_give_log_eight():
    uniform = torch.zeros(1, 4)
    loss = marginal_span(uniform, uniform, torch.tensor([[[0, 1], [2, 2], [-1, -1]]]))
    assert loss.item() == pytest.approx(math.log(8))


def test_a_second_place_of_the_answer_lowers_the_loss_and_filling_does_not(batch: dict[str, Tensor]):
    """Guards against -1 read as the last token, which would count a place that is none."""
    start, end = batch["start"][:, 0], batch["end"][:, 0]
    one = marginal_span(start, end, torch.tensor([[[1, 2]], [[0, 5]]]))
    filled = marginal_span(start, end, torch.tensor([[[1, 2], [-1, -1]], [[0, 5], [-1, -1]]]))
    two = marginal_span(start, end, torch.tensor([[[1, 2], [3, 3]], [[0, 5], [3, 3]]]))
    assert filled.item() == one.item()
    assert two < one


def test_padding_and_missing_passages_do_not_count(batch: dict[str, Tensor]):
    """Guards against a softmax over padding: with it the loss of a question depends on its neighbours' lengths."""
    plain = extractive(**batch, spans=SPANS, positives=torch.tensor([0, 0]))
    padded = {
        "start": torch.nn.functional.pad(batch["start"], (0, 4, 0, 2), value=-torch.inf),
        "end": torch.nn.functional.pad(batch["end"], (0, 4, 0, 2), value=-torch.inf),
        "selection": torch.nn.functional.pad(batch["selection"], (0, 2), value=-torch.inf),
    }
    assert extractive(**padded, spans=SPANS, positives=torch.tensor([0, 0])).item() == pytest.approx(plain.item())
    zeros = {name: tensor.masked_fill(tensor == -torch.inf, 0.0) for name, tensor in padded.items()}  # the control
    assert extractive(**zeros, spans=SPANS, positives=torch.tensor([0, 0])) > plain + 0.1


def test_gradients_are_finite_beside_padding_and_zero_in_the_negatives_spans(batch: dict[str, Tensor]):
    """Guards against NaN from -inf times zero, and against training the span heads on passages without the answer."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in batch.items()}
    padded = {
        name: tensor.masked_fill(torch.arange(tensor.shape[-1]) >= 6, -torch.inf) for name, tensor in leaves.items()
    }
    padded["selection"] = leaves["selection"].masked_fill(torch.tensor([False, False, True]), -torch.inf)
    extractive(**padded, spans=SPANS, positives=torch.tensor([0, 0])).backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves.values())
    assert leaves["start"].grad[:, 1:].abs().max() == 0
    assert leaves["start"].grad[:, 0].abs().max() > 0
    assert leaves["selection"].grad[:, 2].abs().max() == 0


def test_selection_gradient_is_probability_minus_one_hot_over_the_batch():
    selection = torch.tensor([[0.3, -1.0], [2.0, 0.1]], requires_grad=True)
    passage_selection(selection, torch.tensor([1, 0])).backward()
    wanted = (selection.softmax(-1) - torch.tensor([[0.0, 1.0], [1.0, 0.0]])) / 2
    torch.testing.assert_close(selection.grad, wanted.detach())


def test_a_question_without_a_span_is_refused_by_number():
    """Guards against an infinite loss that spoils the weights of the whole batch."""
    zeros = torch.zeros(2, 4)
    with pytest.raises(ValueError, match=r"queries \[1\]"):
        marginal_span(zeros, zeros, torch.tensor([[[0, 1]], [[-1, -1]]]))


def test_half_precision_logits_give_a_float32_loss():
    start = torch.full((1, 4), 3.0, dtype=torch.bfloat16)
    loss = marginal_span(start, start, torch.tensor([[[0, 1]]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(16))
