"""From the states of a text's tokens to one vector; padding never counts, on whichever side it stands."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor


def mean(
    states: Float[Tensor, "passage token layer"], mask: Int[Tensor, "passage token"]
) -> Float[Tensor, "passage layer"]:
    """The average over the tokens that are not padding (Contriever, sentence-transformers)."""
    real = mask.unsqueeze(-1).bool()
    total = states.float().masked_fill(~real, 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1)


def cls(
    states: Float[Tensor, "passage token layer"], mask: Int[Tensor, "passage token"]
) -> Float[Tensor, "passage layer"]:
    """The state of the first token that is not padding, without BERT's pooler (DPR, BGE)."""
    return _at(states, mask.argmax(dim=1))


def last(
    states: Float[Tensor, "passage token layer"], mask: Int[Tensor, "passage token"]
) -> Float[Tensor, "passage layer"]:
    """The state of the last token that is not padding (decoders)."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    return _at(states, (mask * positions).argmax(dim=1))


def _at(
    states: Float[Tensor, "passage token layer"], position: Int[Tensor, " passage"]
) -> Float[Tensor, "passage layer"]:
    return states[torch.arange(len(states), device=states.device), position].float()


Pooler = Callable[[Tensor, Tensor], Tensor]
POOLERS: dict[str, Pooler] = {"mean": mean, "cls": cls, "last": last}
