"""Knowledge distillation in its general form: a gold class beside a softened teacher (Hinton et al. 2015)."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ragkit.errors import ConfigError
from ragkit.losses.distillation import distillation_kl


def knowledge_distillation(
    scores: Float[Tensor, "query passage"],
    feedback: Float[Tensor, "query passage"],
    gold: Int[Tensor, " query"],
    *,
    alpha: float = 0.5,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """``(1 - alpha) CE(scores, gold) + alpha t^2 KL(softmax(feedback / t) || softmax(scores / t))``, over queries.

    The mean over queries, in float32. ``gold`` is the column of each query's gold passage; the cross-entropy is taken
    at temperature 1, and ``t^2`` keeps the scale of the gradient as ``t`` grows. No gradient reaches ``feedback``; a
    passage with score -inf is missing. ConfigError for an alpha outside 0..1 or a temperature that is not above 0.

    >>> import torch
    >>> scores, feedback, gold = torch.zeros(1, 2), torch.tensor([[0.0, 1.0986123]]), torch.tensor([1])
    >>> [round(knowledge_distillation(scores, feedback, gold, alpha=alpha).item(), 4) for alpha in (0.0, 1.0)]
    [0.6931, 0.1308]
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha must be from 0 (the gold passage alone) to 1 (the feedback alone), not {alpha}")
    gold_loss = F.cross_entropy(scores.float(), gold.long(), reduction="mean")
    divergence = distillation_kl(scores, feedback, temperature=temperature, feedback_temperature=temperature)
    return (1 - alpha) * gold_loss + alpha * temperature**2 * divergence
