"""The marginal likelihood of the answer over the retrieved passages (EMDR2, RAG)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ragkit.errors import ConfigError


def marginal_nll(
    scores: Float[Tensor, "query passage"],
    log_likelihood: Float[Tensor, "query passage *token"],
    *,
    temperature: float = 1.0,
    granularity: Literal["sequence", "token"] = "sequence",
    token_mask: Bool[Tensor, "query token"] | None = None,
) -> Float[Tensor, ""]:
    """The negative log of ``sum_z p(answer | question, z) p(z | question)`` over the passages z of each query; float32.

    ``log_likelihood`` is the reader's of the answer with each passage alone: of the whole answer ``[query, passage]``
    or of each token ``[query, passage, token]``; no gradient reaches it. ``sequence``: the marginal of whole answers,
    ``-logsumexp_z(sum_t l_zt + log p_z)``, averaged over queries. ``token``: a mixture a token,
    ``-logsumexp_z(l_zt + log p_z)``, averaged over the valid tokens of the batch (EMDR2's code; RAG-Token).
    ``token_mask`` is False at padding. A passage with score -inf has probability 0.

    ``p(z | question)`` is the softmax of ``scores / temperature`` over the passages given. To normalise over the whole
    corpus, add the rest of it as one more passage: its score is the logsumexp of the scores left out (times the
    temperature), its log-likelihood -inf; the marginal is then a lower bound that grows with the passages given.

    >>> import torch
    >>> round(marginal_nll(torch.zeros(1, 2), torch.tensor([[0.5, 0.1]]).log()).item(), 4)  # -log((0.5 + 0.1) / 2)
    1.204
    """
    if not temperature > 0:  # nan too
        raise ConfigError(f"temperature must be above 0, not {temperature}")
    answer = log_likelihood.detach().float()
    if token_mask is not None:
        # where a token is padding its log-likelihood may be anything, nan too: replaced, not multiplied by zero
        answer = answer.masked_fill(~token_mask[:, None, :], 0.0)
    log_p = F.log_softmax(scores.float() / temperature, dim=-1)
    if granularity == "sequence":
        whole = answer.flatten(start_dim=2).sum(dim=-1) if answer.ndim > scores.ndim else answer
        return -torch.logsumexp(whole + log_p, dim=-1).mean()
    if answer.ndim != scores.ndim + 1:
        raise ValueError(f"granularity=token wants log-likelihoods [query, passage, token], not {tuple(answer.shape)}")
    mixture = torch.logsumexp(answer + log_p[:, :, None], dim=1)  # [query, token]
    if token_mask is None:
        return -mixture.mean()
    return -mixture.masked_fill(~token_mask, 0.0).sum() / token_mask.sum().clamp(min=1)
