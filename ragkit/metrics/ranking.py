"""Scores of rankings, one value a question; the caller takes the mean.

``is_relevant[query, rank]`` says whether the passage at that rank counts, best rank first; a missing hit is False.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int

from ragkit.errors import InputError


def hit_at_k(is_relevant: Bool[np.ndarray, "query rank"], k: int) -> Float64[np.ndarray, " query"]:
    """1.0 where one of the first k passages counts, else 0.0 (DPR's "top-k accuracy", often called R@k).

    >>> hit_at_k(np.array([[False, True], [False, False]]), 2).tolist()
    [1.0, 0.0]
    """
    return np.asarray(_first(is_relevant, k).any(axis=1), dtype=np.float64)


def recall_at_k(
    is_gold: Bool[np.ndarray, "query rank"], n_gold: Int[np.ndarray, " query"], k: int
) -> Float64[np.ndarray, " query"]:
    """Share of a question's ``n_gold`` gold passages among the first k; NaN for a question without gold passages.

    trec_eval's ``recall_k``.
    """
    return _per_gold(np.sum(_first(is_gold, k), axis=1), n_gold)


def reciprocal_rank(is_gold: Bool[np.ndarray, "query rank"]) -> Float64[np.ndarray, " query"]:
    """1 / rank of the first gold passage, counted from 1; 0.0 where there is none (trec_eval's ``recip_rank``)."""
    if is_gold.shape[1] == 0:
        return np.zeros(len(is_gold))
    return np.where(is_gold.any(axis=1), np.reciprocal(is_gold.argmax(axis=1) + 1.0), 0.0)


def ndcg_at_k(
    is_gold: Bool[np.ndarray, "query rank"], n_gold: Int[np.ndarray, " query"], k: int
) -> Float64[np.ndarray, " query"]:
    """DCG of the first k ranks over that of the best order; NaN for a question without gold passages.

    Gain 1 for a gold passage, discount 1 / log2(rank + 1): trec_eval's ``ndcg_cut_k`` with judgments of 0 and 1.
    """
    first = _first(is_gold, k)
    gained = first @ _discounts(first.shape[1])
    best = np.concatenate([[0.0], np.cumsum(_discounts(k))])[np.minimum(n_gold, k)]
    return _per_gold(gained, best)


def _discounts(k: int) -> Float64[np.ndarray, " rank"]:
    return np.reciprocal(np.log2(np.arange(2, k + 2)))


def _first(is_relevant: Bool[np.ndarray, "query rank"], k: int) -> Bool[np.ndarray, "query k"]:
    if k < 1:
        raise InputError(f"k is {k}; a ranking is cut at k >= 1")
    return is_relevant[:, :k]


def _per_gold(found: np.ndarray, wanted: np.ndarray) -> Float64[np.ndarray, " query"]:
    share: Float64[np.ndarray, " query"] = np.full(len(wanted), np.nan)
    np.divide(found, wanted, out=share, where=wanted > 0)
    return share
