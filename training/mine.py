"""``ragkit mine``: hard negatives for questions, from what any index finds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ragkit.corpus import PassageStore, load_examples, write_examples
from ragkit.errors import ConfigError, InputError
from ragkit.metrics import has_answer
from ragkit.progress import progress
from ragkit.retriever import Retriever
from ragkit.retriever.open import open_retriever, open_store
from ragkit.types import Example, Passage

from .questions import NO_KEY, passage_keys

log = logging.getLogger(__name__)

_QUERIES = 64  # searched at a time


@dataclass(frozen=True, slots=True)
class MinePolicy:
    """Which of the hits become hard negatives: the first ``n`` fit ones among the best ``k``, after ``skip`` hits.

    ``skip`` leaves out the very best, which in a sparsely judged corpus are often right. ``keep`` also keeps the hard
    negatives that the question had, first and beside the ``n``, if they are fit too.
    """

    k: int = 100
    n: int = 10
    skip: int = 0
    keep: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.k:
            raise ConfigError(f"cannot take n={self.n} hard negatives from k={self.k} hits; both are 1 or more, n <= k")
        if not 0 <= self.skip < self.k:
            raise ConfigError(f"skip must be at least 0 and below k={self.k}, not {self.skip}")


@dataclass(slots=True)
class MineReport:
    """What the hits, and with ``keep`` the questions' own hard negatives, were: counts over all questions.

    ``negatives`` and ``kept`` are those that were fit, from the hits and from the file.
    """

    questions: int = 0
    negatives: int = 0
    kept: int = 0
    with_answer: int = 0
    gold: int = 0
    without_text: int = 0
    without_any: int = 0
    without_answers: int = 0

    def __str__(self) -> str:
        return (
            f"{self.negatives} hard negatives for {self.questions} questions and {self.kept} kept; left out: "
            f"{self.with_answer} passages with an answer, {self.gold} gold, {self.without_text} without text; "
            f"{self.without_any} questions got none; {self.without_answers} have no answers to look for"
        )


@dataclass(frozen=True)
class MineJob:
    """Write the questions of ``data`` with hard negatives from ``index_dir`` to ``out``, as DPR's JSONL.

    ``k``, ``n``, ``skip`` and ``keep`` are those of :class:`MinePolicy`.
    """

    data: str
    index_dir: Path
    out: Path
    k: int = 100
    n: int = 10
    skip: int = 0
    keep: bool = False
    device: str = "auto"
    overwrite: bool = False

    def run(self) -> None:
        """Mine, and say how many of which."""
        policy = MinePolicy(self.k, self.n, self.skip, self.keep)
        if self.out.exists() and not self.overwrite:
            raise InputError(f"{self.out} is there already; choose another out= or add overwrite=true")
        examples = load_examples(self.data)
        store, retriever = open_store(self.index_dir), open_retriever(self.index_dir, device=self.device)
        report = MineReport()
        mined = mine(examples, retriever, store=store, policy=policy, report=report)
        shown = progress(mined, description="mining", total=len(examples))
        write_examples(shown, self.out, format="dpr", overwrite=self.overwrite)
        log.info("%s: %s", self.out, report)


def mine(
    examples: Sequence[Example], retriever: Retriever, *, store: PassageStore, policy: MinePolicy, report: MineReport
) -> Iterator[Example]:
    """The examples with hard negatives that no passage with an answer, and no gold passage, is among.

    A passage has an answer if DPR's token match finds one in its title or text; it is gold if a positive of the
    question has its id or its text. Texts of passages that have only an id are filled in. ``report`` is counted up.
    """
    for start in range(0, len(examples), _QUERIES):
        batch = examples[start : start + _QUERIES]
        hits = retriever.search([example.question for example in batch], k=policy.k)
        for example, rows in zip(batch, hits.rows, strict=True):
            found = store.take(rows[rows >= 0])[policy.skip :]
            yield _with_negatives(_filled(example, store), found, policy=policy, report=report)


def _filled(example: Example, store: PassageStore) -> Example:
    return replace(
        example,
        positives=_with_texts(example.positives, store),
        hard_negatives=_with_texts(example.hard_negatives, store),
    )


def _with_texts(passages: Sequence[Passage], store: PassageStore) -> tuple[Passage, ...]:
    if all(passage.text for passage in passages):
        return tuple(passages)
    rows = store.rows([passage.id for passage in passages])
    texts = dict(zip(rows[rows >= 0], store.take(rows[rows >= 0]), strict=True))
    return tuple(p if p.text else texts.get(row, p) for p, row in zip(passages, rows, strict=True))


def _with_negatives(example: Example, hits: Sequence[Passage], *, policy: MinePolicy, report: MineReport) -> Example:
    gold = set(passage_keys(example.positives).flatten().tolist()) - {NO_KEY}
    own = example.hard_negatives if policy.keep else ()
    taken: set[int] = set()
    kept = list(_fit(own, example.answers, gold=gold, taken=taken, report=report))
    mined = list(islice(_fit(hits, example.answers, gold=gold, taken=taken, report=report), policy.n))
    report.questions += 1
    report.negatives += len(mined)
    report.kept += len(kept)
    report.without_any += not mined and not kept
    report.without_answers += not example.answers
    return replace(example, hard_negatives=(*kept, *mined))


def _fit(
    passages: Sequence[Passage], answers: Sequence[str], *, gold: set[int], taken: set[int], report: MineReport
) -> Iterator[Passage]:
    """The passages that have a text, are not gold, hold no answer and are not in ``taken``, which grows."""
    for passage, key in zip(passages, passage_keys(passages).tolist(), strict=True):
        if not passage.text:
            report.without_text += 1
        elif gold & {*key}:
            report.gold += 1
        elif has_answer(passage.text, answers) or has_answer(passage.title, answers):
            report.with_answer += 1
        elif not taken & {*key}:
            taken |= {*key} - {NO_KEY}
            yield passage
