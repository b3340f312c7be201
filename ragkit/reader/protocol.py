"""What the rest of ragkit needs from a reader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from ragkit.types import Prediction, ScoredPassage


@runtime_checkable
class Reader(Protocol):
    """Anything that answers a question from retrieved passages."""

    def answer(self, questions: Sequence[str], passages: Sequence[Sequence[ScoredPassage]]) -> list[Prediction]:
        """One prediction a question, from that question's passages, best first; no passages: the empty prediction."""
        ...

    def save_pretrained(self, folder: Path) -> None:
        """Write the reader so that its ``from_pretrained`` and transformers load it."""
        ...
