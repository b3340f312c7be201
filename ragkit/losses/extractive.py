"""The loss of DPR's extractive reader: which passage answers, and where in it the answer stands."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def passage_selection(selection: Float[Tensor, "query passage"], positives: Int[Tensor, " query"]) -> Float[Tensor, ""]:
    """``-log softmax_i(selection)[positive]``, averaged over queries.

    ``selection`` is -inf where a query has no passage; ``positives`` is the column of each query's positive passage.

    >>> passage_selection(torch.tensor([[0.0, 0.0, -torch.inf]]), torch.tensor([0]))  # one of two passages: log 2
    tensor(0.6931)
    """
    return F.cross_entropy(selection.float(), positives.long(), reduction="mean")


def marginal_span(
    start: Float[Tensor, "query token"], end: Float[Tensor, "query token"], spans: Int[Tensor, "query span 2"]
) -> Float[Tensor, ""]:
    """``-log sum over spans of P(start) P(end)``, averaged over queries: any of the answer's places will do.

    ``start`` and ``end`` are the logits of the positive passage, -inf at its padding, each normalised over the tokens
    of that passage. ``spans`` holds the first and the last token (inclusive) of every place where an answer stands;
    -1 fills the line. A query without any span has no finite loss and raises :class:`ValueError`.

    >>> uniform = torch.zeros(1, 4)  # two spans of probability 1/16 each: log 8
    >>> marginal_span(uniform, uniform, torch.tensor([[[0, 1], [2, 2], [-1, -1]]]))
    tensor(2.0794)
    """
    is_span = (spans >= 0).all(dim=-1)
    if not bool(is_span.any(dim=-1).all()):
        missing = (~is_span.any(dim=-1)).nonzero().flatten().tolist()
        raise ValueError(f"queries {missing} of the batch have no answer span; drop them before the loss")
    places = spans.clamp(min=0).long()
    log_start = start.float().log_softmax(dim=-1).gather(-1, places[..., 0])
    log_end = end.float().log_softmax(dim=-1).gather(-1, places[..., 1])
    log_span = (log_start + log_end).masked_fill(~is_span, -torch.inf)
    return -log_span.logsumexp(dim=-1).mean()


def extractive(
    start: Float[Tensor, "query passage token"],
    end: Float[Tensor, "query passage token"],
    selection: Float[Tensor, "query passage"],
    *,
    spans: Int[Tensor, "query span 2"],
    positives: Int[Tensor, " query"],
) -> Float[Tensor, ""]:
    """DPR's reader loss, averaged over queries: :func:`passage_selection` plus :func:`marginal_span` of the positive.

    ``spans`` are the answer's places in the positive passage; those of the negatives do not enter. DPR sums over the
    batch where this averages, so that the learning rate does not depend on the batch size: multiply by the number of
    queries for its number. Source: Karpukhin et al. 2020, section 6.1.
    """
    queries = torch.arange(len(selection), device=selection.device)
    positive = positives.long()
    return passage_selection(selection, positives) + marginal_span(
        start[queries, positive], end[queries, positive], spans
    )
