"""The demo's figures: what each search found, what was answered, in a table and as a difference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64
from rich.table import Table
from rich.text import Text

from ragkit.metrics import bootstrap_interval, exact_match, f1, has_answer, hit_at_k
from ragkit.pipeline import RetrieveThenRead
from ragkit.types import Example, Prediction, ScoredPassage

CUTS = (1, 5, 20)

Scores = dict[str, Float64[np.ndarray, " question"]]

_NOTES = {
    "hit@1": "hit@k: an answer stands in the k best passages.",
    "EM": "EM, F1: the reader's answer against the gold ones.",
}


def semantic_marks(path: Path) -> Bool[np.ndarray, " question"]:
    """Which questions of a file of the sample share next to no word with their passage."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return np.array([json.loads(line)["semantic"] for line in lines], dtype=bool)


def find(rag: RetrieveThenRead, examples: Sequence[Example]) -> list[list[ScoredPassage]]:
    """The best passages of every question, as many as the largest of ``CUTS``."""
    return rag.passages(rag.retrieve([example.question for example in examples], k=max(CUTS)))


def some_of_both(is_right: Bool[np.ndarray, " question"], count: int) -> list[int]:
    """Up to ``count`` rows, spread evenly over the right answers and then over the wrong ones, half of each.

    >>> some_of_both(np.array([False, True, False, False, True]), 3)
    [1, 4, 0]
    """
    right, wrong = np.flatnonzero(is_right), np.flatnonzero(~is_right)
    n_right = min(len(right), (count + 1) // 2)
    shares = ((right, n_right), (wrong, min(len(wrong), count - n_right)))
    return [int(rows[len(rows) * step // n]) for rows, n in shares for step in range(n)]


def hit_scores(found: Sequence[Sequence[ScoredPassage]], examples: Sequence[Example]) -> Scores:
    """``hit@1`` and so on of every question."""
    bearing = np.zeros((len(examples), max(CUTS)), dtype=bool)
    for row, (example, hits) in enumerate(zip(examples, found, strict=True)):
        bearing[row, : len(hits)] = [has_answer(hit.passage.text, example.answers) for hit in hits]
    return {f"hit@{cut}": hit_at_k(bearing, cut) for cut in CUTS}


def answer_scores(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    """Exact match and F1 of every question."""
    pairs = [(found.text, example.answers) for found, example in zip(predictions, examples, strict=True)]
    return {name: np.array([metric(*pair) for pair in pairs]) for name, metric in (("EM", exact_match), ("F1", f1))}


def score_table(
    scores: Mapping[str, Scores], is_semantic: Bool[np.ndarray, " question"], *, what: str, seed: int
) -> Table:
    """A line a retriever: means with 95 % bootstrap intervals, over all questions and over the two kinds of them."""
    table = Table(title=f"share of {what} questions, with its 95 % interval", title_justify="left")
    table.add_column("passages from", no_wrap=True)
    for name in next(iter(scores.values())):
        table.add_column(name, justify="right", no_wrap=True)
    kinds = {
        "all": np.ones_like(is_semantic),
        "by words": ~is_semantic,
        "by meaning": is_semantic,
    }
    for kind, chosen in kinds.items():
        table.add_section()
        table.add_row(Text(f"{kind}: {chosen.sum()}", style="bold"))
        for name, values in scores.items():
            table.add_row(f"  {name}", *(_cell(values[metric][chosen], seed=seed) for metric in values))
    notes = " ".join(note for metric, note in _NOTES.items() if metric in next(iter(scores.values())))
    table.caption = f"{notes}\nby meaning: questions that share next to no word with their passage."
    table.caption_justify = "left"
    return table


def _cell(values: Float64[np.ndarray, " question"], *, seed: int) -> str:
    found = bootstrap_interval(values, generator=np.random.default_rng(seed))
    return f"{found.value:.3f}\n{found.low:.2f}-{found.high:.2f}"


def gains(before: Scores, after: Scores, *, seed: int) -> str:
    """By how much each metric changed on the same questions, with 95 % bootstrap intervals of the difference.

    >>> gains({"hit@1": np.zeros(4)}, {"hit@1": np.ones(4)}, seed=0)
    'hit@1 0.000 -> 1.000 (+1.00, 95 % interval +1.00 to +1.00)'
    """
    parts = []
    for metric, values in after.items():
        change = bootstrap_interval(values - before[metric], generator=np.random.default_rng(seed))
        interval = f"{change.value:+.2f}, 95 % interval {change.low:+.2f} to {change.high:+.2f}"
        parts.append(f"{metric} {before[metric].mean():.3f} -> {values.mean():.3f} ({interval})")
    return "\n".join(parts)
