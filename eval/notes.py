"""What to know of the questions and their gold passages before quoting a figure."""

from __future__ import annotations

from dataclasses import replace

from ragkit.errors import InputError
from ragkit.types import Example

from .relevance import Gold


def checked_examples(examples: list[Example]) -> tuple[list[Example], list[str]]:
    """The examples with an id of its own each, and notes on what was found; InputError where there are none.

    A repeated id gets ``-2``, ``-3`` and so on, in order: a TREC run has one list of hits an id.
    """
    if not examples:
        raise InputError("the data hold no questions")
    seen: dict[str, int] = {}
    distinct = []
    for example in examples:
        times = seen[example.id] = seen.get(example.id, 0) + 1
        distinct.append(example if times == 1 else replace(example, id=f"{example.id}-{times}"))
    notes = []
    if len(seen) < len(examples):
        notes.append(f"questions that repeat an id: {len(examples) - len(seen)}; their ids got -2, -3 and so on")
    n_unanswered = sum(not example.answers for example in examples)
    if n_unanswered:
        notes.append(f"questions without answers: {n_unanswered}; left out of the metrics that need them")
    return distinct, notes


def gold_notes(gold: Gold) -> list[str]:
    """What to know of the gold passages before quoting their metrics."""
    n_gold, n_judged = int(gold.count.sum()), int((gold.count > 0).sum())
    if not n_gold:
        return []
    if not gold.is_usable:
        return [f"none of the {n_gold} gold passages is in the corpus by its id: no hit_gold, recall, MRR and nDCG"]
    notes = []
    if gold.n_unknown:
        notes.append(f"gold passages that are not in the corpus: {gold.n_unknown} of {n_gold}; they count as not found")
    if n_judged < len(gold.ids):
        notes.append(
            f"questions without gold passages: {len(gold.ids) - n_judged}; left out of the metrics that need them"
        )
    return notes
