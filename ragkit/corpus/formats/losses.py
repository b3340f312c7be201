"""What a conversion kept and what it dropped, counted from examples before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ragkit.types import Example, Passage


@dataclass(slots=True)
class Tally:
    """Counts of what was kept and of what was dropped, by what it is."""

    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, example: Example, held: Example | None) -> None:
        """Count one example; ``held`` is what a format holds of it."""
        if held is None:
            self.dropped["questions"] += 1
            return
        self.kept["questions"] += 1
        self.dropped["ids of questions"] += held.id != example.id
        self.dropped["line ends in questions"] += held.question != example.question
        self._count("answers", len(example.answers), len(held.answers))
        self._count("targets", bool(example.target), bool(example.target) and held.target == example.target)
        hits = [hit.passage for hit in example.retrieved]
        self._passages("positives", example.positives, held.positives)
        self._passages("hard negatives", example.hard_negatives, held.hard_negatives)
        self._passages("retrieved passages", hits, [hit.passage for hit in held.retrieved])

    def summary(self, name: str) -> str:
        """One line: ``questions kept 100, answers kept 230; hard negatives dropped 532: nq-open cannot hold them``."""
        kept = ", ".join(f"{what} kept {count:,}" for what, count in self.kept.items() if count)
        dropped = ", ".join(f"{what} dropped {count:,}" for what, count in self.dropped.items() if count)
        return "; ".join(part for part in (kept, dropped and f"{dropped}: {name} cannot hold them") if part)

    def _count(self, what: str, before: int, after: int) -> None:
        self.kept[what] += after
        self.dropped[what] += before - after

    def _passages(self, what: str, before: Sequence[Passage], after: Sequence[Passage]) -> None:
        self._count(what, len(before), len(after))
        gone = len(before) - len(after)
        ids = {passage.id for passage in before}
        self.dropped[f"ids of {what}"] += sum(passage.id not in ids for passage in after)
        texts = sum(bool(passage.text) for passage in before) - sum(bool(passage.text) for passage in after)
        titles = sum(bool(passage.title) for passage in before) - sum(bool(passage.title) for passage in after)
        self.dropped[f"texts of {what}"] += max(0, texts - gone)
        self.dropped[f"titles of {what}"] += max(0, titles - gone)
