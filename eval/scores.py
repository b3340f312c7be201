"""Every metric of every question, and their means with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64

from ragkit.metrics import (
    Interval,
    bootstrap_interval,
    exact_match,
    f1,
    hit_at_k,
    ndcg_at_k,
    recall_at_k,
    reciprocal_rank,
    regex_exact_match,
)
from ragkit.types import Example, Prediction

from .relevance import Gold

CUTS = (1, 5, 20, 100)
_NDCG_CUT = 10

# by the kind of the answers: metric name -> score of one prediction
ANSWER_METRICS: dict[str, dict[str, Callable[[str, Sequence[str]], float]]] = {
    "text": {"exact_match": exact_match, "f1": f1},
    "regex": {"exact_match_regex": regex_exact_match},
}

Scores = dict[str, Float64[np.ndarray, " question"]]  # NaN where a metric does not apply to a question


def cuts(k: int) -> list[int]:
    """The ranks at which lists of k hits are cut: 1, 5, 20 and 100 below k, and k itself."""
    return [cut for cut in CUTS if cut < k] + [k]


def hit_scores(found: Mapping[str, Bool[np.ndarray, "query k"]], examples: Sequence[Example], *, k: int) -> Scores:
    """``hit@1`` and so on for every rule of containment; a question without answers has NaN."""
    is_answered = np.array([bool(example.answers) for example in examples])
    return {
        f"{name}@{cut}": np.where(is_answered, hit_at_k(is_relevant, cut), np.nan)
        for name, is_relevant in found.items()
        for cut in cuts(k)
    }


def gold_scores(gold: Gold, *, k: int) -> Scores:
    """``hit_gold@k`` and ``recall@k`` at every cut, ``mrr@k`` of the whole list, ``ndcg@10``; NaN without gold.

    ``hit_gold`` asks for one gold passage among the first k (ir_measures' Success@k), ``recall`` for the share.
    """
    n_gold = gold.count
    scores: Scores = {f"hit_gold@{cut}": np.where(n_gold > 0, hit_at_k(gold.found, cut), np.nan) for cut in cuts(k)}
    scores |= {f"recall@{cut}": recall_at_k(gold.found, n_gold, cut) for cut in cuts(k)}
    scores[f"mrr@{k}"] = np.where(n_gold > 0, reciprocal_rank(gold.found), np.nan)
    ndcg_cut = min(_NDCG_CUT, k)
    scores[f"ndcg@{ndcg_cut}"] = ndcg_at_k(gold.found, n_gold, ndcg_cut)
    return scores


def answer_scores(predictions: Sequence[Prediction], examples: Sequence[Example], *, kind: str) -> Scores:
    """Exact match and F1 of every prediction, in [0, 1]; a question without answers has NaN."""
    return {
        name: np.array(
            [
                metric(prediction.text, example.answers) if example.answers else np.nan
                for prediction, example in zip(predictions, examples, strict=True)
            ]
        )
        for name, metric in ANSWER_METRICS[kind].items()
    }


def intervals(scores: Scores, *, seed: int) -> dict[str, Interval]:
    """The mean and 95 % bootstrap interval of every metric over the questions it applies to.

    Each metric draws the same resamples of its questions, so that one metric more changes no other's interval.
    A metric that applies to no question is left out.
    """
    applicable = {name: values[~np.isnan(values)] for name, values in scores.items()}
    return {
        name: bootstrap_interval(values, generator=np.random.default_rng(seed))
        for name, values in applicable.items()
        if len(values)
    }
