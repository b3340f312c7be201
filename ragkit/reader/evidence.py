"""What each passage contributed to an answer, as shares, and the passages in that order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ragkit.types import Evidence, ScoredPassage


def leave_one_out_shares(log_likelihood: Float[Tensor, "query passage"]) -> Float[Tensor, "query passage"]:
    """The softmax over passages of -(log-likelihood of the answer without each); 0 for a missing one (-inf)."""
    is_there = log_likelihood > -torch.inf
    return _softmax((-log_likelihood).masked_fill(~is_there, -torch.inf), is_there)


def mass_shares(mass: Float[Tensor, "query passage"]) -> Float[Tensor, "query passage"]:
    """Each passage's part of the whole mass; 0 for a missing one (-inf)."""
    found = mass.masked_fill(mass == -torch.inf, 0.0)
    return found / found.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(found.dtype).tiny)


def _softmax(scores: Tensor, is_there: Tensor) -> Tensor:
    safe = scores.masked_fill(~is_there.any(dim=-1, keepdim=True), 0.0)  # no passage at all
    return safe.softmax(dim=-1).masked_fill(~is_there, 0.0)


def make_evidence(hits: Sequence[ScoredPassage], shares: Sequence[float] | None = None) -> tuple[Evidence, ...]:
    """The passages with their contributions, the largest first (equal ones in the retriever's order).

    Without shares every contribution is 0: nobody asked for them.
    """
    values = [min(max(float(share), 0.0), 1.0) for share in shares or [0.0] * len(hits)]
    order = sorted(range(len(hits)), key=lambda row: -values[row])
    return tuple(Evidence(hits[row].passage, hits[row].score, values[row]) for row in order)
