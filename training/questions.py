"""Questions with passages to train a retriever on: texts filled in, the useless dropped and counted, draws made."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from ragkit.corpus import PassageStore
from ragkit.errors import InputError
from ragkit.seeding import derive_seed, make_generator
from ragkit.types import Example, Passage

log = logging.getLogger(__name__)

NO_KEY = -1  # pads lists of keys; no passage has it


@dataclass(slots=True)
class Counts:
    """What became of the questions of a file."""

    used: int = 0
    without_positive: int = 0
    without_negative: int = 0
    unknown_ids: int = 0

    def __str__(self) -> str:
        return (
            f"{self.used} questions; {self.without_positive} without a positive passage dropped; "
            f"{self.without_negative} have no hard negative; {self.unknown_ids} passage ids are not in the store"
        )


def usable_questions(examples: Iterable[Example], *, store: PassageStore | None = None) -> tuple[list[Example], Counts]:
    """The examples that have a positive passage with text; passages given by id alone get it from ``store``.

    A passage without text that the store does not know is dropped and counted.

    Raises:
        InputError: passages are given by id alone and there is no store.
    """
    counts, kept = Counts(), []
    for example in examples:
        positives = _with_texts(example.positives, store=store, counts=counts, question=example.question)
        negatives = _with_texts(example.hard_negatives, store=store, counts=counts, question=example.question)
        if not positives:
            counts.without_positive += 1
            continue
        counts.used += 1
        counts.without_negative += not negatives
        kept.append(replace(example, positives=positives, hard_negatives=negatives))
    return kept, counts


def _with_texts(
    passages: Sequence[Passage], *, store: PassageStore | None, counts: Counts, question: str
) -> tuple[Passage, ...]:
    missing = [passage.id for passage in passages if not passage.text.strip()]
    if not missing:
        return tuple(passages)
    if store is None:
        raise InputError(
            f"the passages of {question!r} are given by id alone ({missing[0]!r}): name the index whose store has "
            "their texts, index_dir=DIR"
        )
    rows = store.rows(missing)
    counts.unknown_ids += int((rows < 0).sum())
    known = [passage_id for passage_id, row in zip(missing, rows, strict=True) if row >= 0]
    found = dict(zip(known, store.take(rows[rows >= 0]), strict=True))
    filled = (passage if passage.text.strip() else found.get(passage.id) for passage in passages)
    return tuple(passage for passage in filled if passage is not None)


def draw_passages(
    example: Example, *, negatives: int, draw: Literal["random", "first"], seed: int
) -> tuple[Passage, list[Passage]]:
    """One positive and up to ``negatives`` hard negatives; a random draw depends on the seed and the example alone."""
    if draw == "first":
        return example.positives[0], list(example.hard_negatives[:negatives])
    generator = make_generator(seed, "passages", example.id, example.question)
    positive = example.positives[int(torch.randint(len(example.positives), (), generator=generator))]
    order = torch.randperm(len(example.hard_negatives), generator=generator)[:negatives].tolist()
    return positive, [example.hard_negatives[place] for place in order]


def passage_keys(passages: Sequence[Passage]) -> Int64[Tensor, "passage 2"]:
    """Two numbers a passage, of its id and of its title and text: passages that share one are the same passage."""
    keys = [(_key("id", passage.id) if passage.id else NO_KEY, _key("text", _words(passage))) for passage in passages]
    return torch.tensor(keys, dtype=torch.int64).reshape(-1, 2)


def gold_keys(examples: Sequence[Example]) -> Int64[Tensor, "query gold"]:
    """The keys of every positive of each example, filled up with :data:`NO_KEY`."""
    found = [passage_keys(example.positives).flatten() for example in examples]
    return torch.nn.utils.rnn.pad_sequence(found, batch_first=True, padding_value=NO_KEY)


def is_gold(
    keys: Int64[Tensor, "passage 2"], gold: Int64[Tensor, "query gold"]
) -> Tensor:  # Bool[Tensor, "query passage"]
    """Whether passage p is a positive of question q, ``[query, passage]``: by id or by text."""
    same = (keys[None, :, :, None] == gold[:, None, None, :]) & (keys[None, :, :, None] != NO_KEY)
    return same.any(dim=-1).any(dim=-1)


def digest(examples: Sequence[Example]) -> str:
    """Sha256 of the questions and their passages, 16 characters: whether a resumed run has the same data."""
    total = hashlib.sha256()
    for example in examples:
        total.update(repr((example.id, example.question)).encode("utf-8", "surrogatepass"))
        total.update(passage_keys([*example.positives, *example.hard_negatives]).numpy().tobytes())
    return total.hexdigest()[:16]


def _key(kind: str, text: str) -> int:
    return derive_seed(0, kind, text)


def _words(passage: Passage) -> str:
    """Title and text without differences of case and white space."""
    return f"{' '.join(passage.title.lower().split())}\n{' '.join(passage.text.lower().split())}"
