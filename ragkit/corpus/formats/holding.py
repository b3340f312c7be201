"""What is left of an example in a format that cannot hold all of it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from ragkit.corpus.formats.records import passage_id, question_id
from ragkit.corpus.read import clean_text
from ragkit.types import Example, Passage

Hold = Callable[[Example], Example | None]
EVERYTHING = frozenset({"id", "answers", "target", "positives", "hard_negatives", "retrieved"})


def holding(*parts: str, passage: Callable[[Passage], Passage] = lambda whole: whole) -> Hold:
    """The function that keeps these parts of an example (and its question), with each passage as ``passage`` leaves it.

    An id that is not kept becomes the derived one, as the reader will give it.
    """
    kept = _checked(parts)

    def hold(example: Example) -> Example:
        return Example(
            id=example.id if "id" in kept else question_id(example.question),
            question=example.question,
            answers=example.answers if "answers" in kept else (),
            positives=tuple(map(passage, example.positives)) if "positives" in kept else (),
            hard_negatives=tuple(map(passage, example.hard_negatives)) if "hard_negatives" in kept else (),
            retrieved=tuple(replace(hit, passage=passage(hit.passage)) for hit in example.retrieved)
            if "retrieved" in kept
            else (),
            target=example.target if "target" in kept else "",
        )

    return hold


def _checked(parts: Collection[str]) -> frozenset[str]:
    if not EVERYTHING.issuperset(parts):
        raise ValueError(f"unknown parts {sorted(set(parts) - EVERYTHING)}; choose from {sorted(EVERYTHING)}")
    return frozenset(parts)


def only_id(passage: Passage) -> Passage:
    """The passage in a format that gives ids and no texts."""
    return Passage(id=passage.id, text="")


def only_text(passage: Passage) -> Passage:
    """The passage in a format that gives texts and no ids."""
    return replace(passage, id=passage_id(passage.title, passage.text))


def cleaned(example: Example) -> Example:
    """The example with U+FFFD for NUL and lone surrogates in its texts; ids are left alone."""
    return Example(
        id=example.id,
        question=clean_text(example.question),
        answers=tuple(map(clean_text, example.answers)),
        positives=tuple(map(_cleaned, example.positives)),
        hard_negatives=tuple(map(_cleaned, example.hard_negatives)),
        retrieved=tuple(replace(hit, passage=_cleaned(hit.passage)) for hit in example.retrieved),
        target=clean_text(example.target),
    )


def _cleaned(passage: Passage) -> Passage:
    return Passage(id=passage.id, text=clean_text(passage.text), title=clean_text(passage.title))
