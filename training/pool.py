"""Dev figures of an encoder without an index: ranks within a pool of passages (DPR's average rank)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ragkit.retriever import DualEncoder
from ragkit.types import Example, Passage

from .questions import gold_keys, is_gold, passage_keys

_QUERIES = 256  # scored at a time


def pool_figures(encoder: DualEncoder, examples: Sequence[Example], *, negatives: int) -> dict[str, float]:
    """``mrr``, ``hit@1`` and DPR's ``average_rank`` of the best positive of each question.

    The pool holds every positive and the first ``negatives`` hard negatives of all questions, each passage once.
    """
    pool = _unique([p for e in examples for p in (*e.positives, *e.hard_negatives[:negatives])])
    keys, gold = passage_keys(pool), gold_keys(examples)
    passages = torch.from_numpy(encoder.encode_passages(pool))
    queries = torch.from_numpy(encoder.encode_queries([example.question for example in examples]))
    ranks = torch.cat(
        [
            gold_ranks(queries[start : start + _QUERIES] @ passages.T, is_gold(keys, gold[start : start + _QUERIES]))
            for start in range(0, len(examples), _QUERIES)
        ]
    )
    return figures_of_ranks(ranks)


def figures_of_ranks(ranks: Int64[Tensor, " query"]) -> dict[str, float]:
    """``mrr``, ``hit@1`` and ``average_rank`` of ranks counted from 1."""
    of = ranks.double()
    return {
        "mrr": float((1 / of).mean()),
        "hit@1": float((of == 1).double().mean()),
        "average_rank": float(of.mean()),
    }


def gold_ranks(scores: Float[Tensor, "query passage"], gold: Bool[Tensor, "query passage"]) -> Int64[Tensor, " query"]:
    """The rank, from 1, of each query's best gold passage among the passages that are not gold.

    Equal scores count against it: vectors that are all the same must not look perfect.
    """
    best = scores.masked_fill(~gold, -torch.inf).amax(dim=-1, keepdim=True)
    return 1 + ((scores >= best) & ~gold).sum(dim=-1)


def _unique(passages: Sequence[Passage]) -> list[Passage]:
    found: dict[tuple[int, ...], Passage] = {}
    for passage, key in zip(passages, passage_keys(passages).tolist(), strict=True):
        found.setdefault(tuple(key), passage)
    return list(found.values())
