"""The contrastive loss of DPR and Contriever."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ragkit.errors import ConfigError


def contrastive(
    query_vectors: Float[Tensor, "query dim"],
    passage_vectors: Float[Tensor, "passage dim"],
    positives: Int[Tensor, " query"],
    *,
    temperature: float = 1.0,
    mask: Bool[Tensor, "query passage"] | None = None,
) -> Float[Tensor, ""]:
    """``-log(exp(q.p+ / t) / sum_j exp(q.p_j / t))``, averaged over queries; computed in float32, autocast or not.

    ``positives[i]`` is the passage of query i; every other passage is a negative of it. ``mask`` is False where a
    passage must not count as a negative of a query (it is another positive of the same question); the query's own
    positive always counts. Temperature 1 is DPR's loss (Karpukhin et al. 2020, equation 2).

    >>> import torch
    >>> loss = contrastive(torch.eye(2), torch.eye(2), torch.tensor([0, 1]))
    >>> round(loss.item(), 4)  # -log(e / (e + 1))
    0.3133
    """
    if not temperature > 0:  # nan too
        raise ConfigError(f"temperature must be above 0, not {temperature}")
    with torch.autocast(query_vectors.device.type, enabled=False):  # it would round the products to bfloat16
        scores = query_vectors.float() @ passage_vectors.float().T / temperature
    if mask is not None:
        is_positive = F.one_hot(positives.long(), num_classes=scores.shape[1]).bool()
        scores = scores.masked_fill(~(mask | is_positive), -torch.inf)
    return F.cross_entropy(scores, positives.long(), reduction="mean")
