"""Scores of answers and of rankings, with their intervals."""

from ragkit.metrics.answers import exact_match, f1, normalize_answer, regex_exact_match
from ragkit.metrics.intervals import Interval, PairedTest, bootstrap_interval, paired_test
from ragkit.metrics.matching import contains_answer, has_answer, regex_match, token_line
from ragkit.metrics.ranking import hit_at_k, ndcg_at_k, recall_at_k, reciprocal_rank

__all__ = [
    "Interval",
    "PairedTest",
    "bootstrap_interval",
    "contains_answer",
    "exact_match",
    "f1",
    "has_answer",
    "hit_at_k",
    "ndcg_at_k",
    "normalize_answer",
    "paired_test",
    "recall_at_k",
    "reciprocal_rank",
    "regex_exact_match",
    "regex_match",
    "token_line",
]
