"""The passages of a training batch: found with the live index, some left out, perhaps scored again, perhaps none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64

from ragkit.corpus import PassageStore
from ragkit.errors import ConfigError
from ragkit.retriever import DualEncoder
from ragkit.retriever.protocol import Retriever
from ragkit.types import Example, Passage

NULL_PASSAGE = Passage("", "")  # REALM's null document: nothing to read, so that credit can go to no passage


@dataclass(frozen=True, slots=True)
class FindingOptions:
    """Which passages a training question gets.

    ``k`` passages enter the retriever's loss, the first ``reader_k`` of them (None: all) the reader's. ``search_k``
    above ``k`` searches wide and keeps the ``k`` best by the current weights (rerank). ``exclude_own`` leaves out the
    passage whose id is the question's own, as where questions are made from passages. ``null_passage`` adds an empty
    passage to the ``k``: the credit for an answer that needs none goes there (REALM).
    """

    k: int = 8
    reader_k: int | None = None
    search_k: int | None = None
    exclude_own: bool = False
    null_passage: bool = False

    def __post_init__(self) -> None:
        if self.k < 2:  # noqa: PLR2004
            raise ConfigError(f"k must be 2 or more, not {self.k}: among one passage there is nothing to choose")
        if self.reader_k is not None and not 1 <= self.reader_k <= self.k:
            raise ConfigError(f"reader_k must be from 1 to k={self.k}, or null for k, not {self.reader_k}")
        if self.search_k is not None and self.search_k < self.k:
            raise ConfigError(f"search_k must be at least k={self.k}, or null for k, not {self.search_k}")

    def check(self, count: int) -> None:
        """Raise ConfigError where an index of ``count`` passages cannot give every question ``k``."""
        if self.k + self.exclude_own > count:
            others = " beside a question's own" if self.exclude_own else ""
            raise ConfigError(
                f"every question is to get k={self.k} passages{others}, and the index has {count}; lower "
                "task.options.finding.k, or build an index of more passages: ragkit index corpus=... out=..."
            )

    @property
    def searched(self) -> int:
        """The hits that are asked of the index for each question."""
        return (self.search_k or self.k) + self.exclude_own


@dataclass(frozen=True, slots=True)
class Found:
    """The passages of each question, best first, and their rows in the store, -1 for none (and for the null one)."""

    passages: list[list[Passage]]
    rows: Int64[np.ndarray, "query passage"]


def find_passages(
    retriever: Retriever,
    items: Sequence[Example],
    *,
    store: PassageStore,
    encoder: DualEncoder,
    options: FindingOptions,
) -> Found:
    """The passages of each item by ``options``; a question may have fewer than ``k``, or none. No gradient."""
    hits = retriever.search([item.question for item in items], k=options.searched)
    lines = [[int(row) for row in line if row >= 0] for line in hits.rows]
    wanted = sorted({row for line in lines for row in line})
    known = dict(zip(wanted, store.take(wanted), strict=True))
    if options.exclude_own:
        lines = [[row for row in line if known[row].id != item.id] for line, item in zip(lines, items, strict=True)]
    if options.search_k is not None and options.search_k > options.k:
        lines = _reranked(lines, items, encoder=encoder, known=known)
    lines = [line[: options.k] for line in lines]
    passages = [[known[row] for row in line] for line in lines]
    if options.null_passage:
        passages, lines = [[*line, NULL_PASSAGE] for line in passages], [[*line, -1] for line in lines]
    rows = np.full((len(lines), max(map(len, lines), default=0)), -1, dtype=np.int64)
    for query, line in enumerate(lines):
        rows[query, : len(line)] = line
    return Found(passages, rows)


def _reranked(
    lines: list[list[int]], items: Sequence[Example], *, encoder: DualEncoder, known: dict[int, Passage]
) -> list[list[int]]:
    """Each line in the order of the inner products of vectors made now; equal ones as they were."""
    rows = sorted(known)
    place = {row: number for number, row in enumerate(rows)}
    with torch.no_grad():
        queries = encoder.encode_queries([item.question for item in items])
        vectors = encoder.encode_passages([known[row] for row in rows])
    ranked = []
    for query, line in zip(queries, lines, strict=True):
        scores = vectors[[place[row] for row in line]] @ query if line else np.empty(0, np.float32)
        ranked.append([line[at] for at in np.argsort(-scores, kind="stable")])
    return ranked
