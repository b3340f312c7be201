"""How likely a reader finds given answers, given all of a question's passages, each alone, or all but each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Given = Literal["joint", "alone", "leave_one_out"]


@dataclass(frozen=True, slots=True)
class AnswerLikelihood:
    """Log-likelihoods (natural) of the tokens of each question's answer, for every set of passages it was scored with.

    The sets of a question are one (``joint``: all of its passages), or one for each of its passages: that passage
    ``alone``, or all the others (``leave_one_out``). ``tokens`` is 0 at padding; ``token_mask`` is False there;
    ``set_mask`` is False where a question has fewer passages than the most.
    """

    tokens: Float[Tensor, "query set token"]
    token_mask: Bool[Tensor, "query token"]
    set_mask: Bool[Tensor, "query set"]

    @property
    def sums(self) -> Float[Tensor, "query set"]:
        """``log p(answer | question, set)``: the sum over tokens; -inf where there is no such set."""
        return self.tokens.sum(dim=-1).masked_fill(~self.set_mask, -torch.inf)

    @property
    def means(self) -> Float[Tensor, "query set"]:
        """The mean over the answer's tokens, as Atlas takes it; -inf where there is no such set."""
        n_tokens = self.token_mask.sum(dim=-1, keepdim=True).clamp(min=1)
        return (self.tokens.sum(dim=-1) / n_tokens).masked_fill(~self.set_mask, -torch.inf)
