"""Distillation of the reader's feedback into the retriever (ADist, LDist, LOOL)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ragkit.errors import ConfigError


def distillation_kl(
    scores: Float[Tensor, "query passage"],
    feedback: Float[Tensor, "query passage"],
    *,
    temperature: float = 1.0,
    feedback_temperature: float = 1.0,
    mask: Bool[Tensor, "query passage"] | None = None,
) -> Float[Tensor, ""]:
    """``KL(softmax(feedback / t_f) || softmax(scores / t))``, summed over passages, averaged over queries; in float32.

    No gradient reaches ``feedback``. ``mask`` is False where there is no passage (a missing hit); without it those
    are the places where the score is -inf. Such a place has probability 0 on both sides. A query with no passage at
    all adds nothing and is not counted. Divided by the number of queries only, never by the passages; the gradient on
    the scores is ``(p - target) / (t * query)``.

    >>> import torch
    >>> round(distillation_kl(torch.zeros(1, 2), torch.tensor([[0.0, 1.0986123]])).item(), 4)  # to (1/4, 3/4)
    0.1308
    """
    if not (temperature > 0 and feedback_temperature > 0):  # nan too
        raise ConfigError(f"temperatures must be above 0, not {temperature} and {feedback_temperature}")
    if mask is None:
        mask = ~torch.isneginf(scores)
    has_passage = mask.any(dim=-1, keepdim=True)
    mask_out = ~mask & has_passage  # a line of nothing but -inf has no softmax: it is left as it is and dropped below
    log_p = F.log_softmax(
        scores.float().masked_fill(~mask, 0.0).masked_fill(mask_out, -torch.inf) / temperature, dim=-1
    )
    teacher = feedback.detach().float().masked_fill(~mask, 0.0).masked_fill(mask_out, -torch.inf)
    log_target = F.log_softmax(teacher / feedback_temperature, dim=-1)
    # 0 log 0 is 0, where floating point has nan
    no_target = ~mask | torch.isneginf(log_target)
    terms = log_target.exp() * (log_target.masked_fill(no_target, 0.0) - log_p.masked_fill(no_target, 0.0))
    return terms.masked_fill(no_target, 0.0).sum() / has_passage.sum().clamp(min=1)
