"""The files a run trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragkit.corpus import load_examples
from ragkit.types import Example


@dataclass(frozen=True, slots=True)
class DataFiles:
    """What to train on and what to evaluate on while training: a path or the name of a data set each, or several."""

    train: str | list[str] | None = None
    dev: str | list[str] | None = None


def load_questions(files: str | Sequence[str] | None) -> list[Example]:
    """The examples of one file or of several, one after the other; none for None.

    Raises:
        InputError, FormatError: as :func:`~ragkit.corpus.load_examples`.
    """
    named = [files] if isinstance(files, str) else list(files or ())
    return [example for name in named for example in load_examples(name)]
