"""What an extractive reader trains on: passages with an answer span, and passages without an answer."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ragkit.errors import ConfigError, InputError
from ragkit.metrics import has_answer
from ragkit.progress import progress
from ragkit.reader import InputEncoder, answer_places, token_spans
from ragkit.types import Example, Passage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How many passages and spans a question trains with.

    ``n_passages`` is M: one positive and M - 1 negatives in every step (DPR: 24); ``n_spans`` places of the answer
    count in the positive (DPR: 10); ``max_positives`` are kept to draw from (DPR: 20). Evaluation reads at most
    ``dev_passages`` passages of a question.

    ``dropout`` replaces the model's own everywhere (DPR: 0.1; without it a step on a CPU takes a third less time).
    ``frozen_layers`` keeps the embeddings and that many of the lowest layers as they are.
    """

    n_passages: int = 6
    n_spans: int = 10
    max_positives: int = 20
    dev_passages: int = 20
    dropout: float = 0.0
    frozen_layers: int = 0

    def __post_init__(self) -> None:
        least_of = {"n_passages": 2, "n_spans": 1, "max_positives": 1, "dev_passages": 1, "frozen_layers": 0}
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise ConfigError(f"options.{name} must be {least} or more, not {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"options.dropout must be at least 0 and below 1, not {self.dropout}")


@dataclass(frozen=True, slots=True)
class ReadingItem:
    """A question with the passages to draw from; every positive has a span within the reader's length limit."""

    number: int
    question: str
    answers: tuple[str, ...]
    positives: tuple[Passage, ...]
    negatives: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class ReadingCounts:
    """Questions kept, dropped because no passage has a span, distantly supervised, and short of negatives."""

    kept: int
    dropped: int
    distant: int
    short: int


def reading_items(
    examples: Sequence[Example], inputs: InputEncoder, *, options: ReadingOptions
) -> tuple[list[ReadingItem], ReadingCounts]:
    """What there is to train on in examples with their retrieved passages, and what became of the examples.

    Positives (DPR's choice): gold passages with a span, joined by retrieved ones with an answer from the same titles;
    where no gold passage has a span, any retrieved passage with one (distant supervision). Negatives: the file's
    hard negatives and the retrieved passages, without those that contain an answer. An example without a positive is
    dropped and counted. InputError where none is left.
    """
    items: list[ReadingItem] = []
    distant = 0
    for example in progress(examples, description="finding answer spans"):
        found = [hit.passage for hit in example.retrieved if hit.passage.text]
        positives, is_distant = _positives(example, found, inputs=inputs, options=options)
        if positives:
            limit = min(max(10 * len(positives), 50), 150)
            pool = unique([*example.hard_negatives, *found])
            negatives = [passage for passage in pool if passage.text and not has_answer(passage.text, example.answers)]
            items.append(
                ReadingItem(len(items), example.question, example.answers, tuple(positives), tuple(negatives[:limit]))
            )
            distant += is_distant
    if not items:
        raise InputError(
            f"none of the {len(examples)} training questions has a passage with an answer span; give positives in the "
            "file, or index_dir= to retrieve them"
        )
    short = sum(len(item.negatives) < options.n_passages - 1 for item in items)
    return items, ReadingCounts(len(items), len(examples) - len(items), distant, short)


def _positives(
    example: Example, retrieved: Sequence[Passage], *, inputs: InputEncoder, options: ReadingOptions
) -> tuple[list[Passage], bool]:
    """The passages with a span to train on, and whether they are distant (not gold)."""

    def with_spans(passages: Iterable[Passage]) -> list[Passage]:
        kept: list[Passage] = []
        for passage in passages:
            if len(kept) < options.max_positives and answer_spans(passage, example, inputs=inputs, limit=1):
                kept.append(passage)
        return kept

    gold = with_spans(example.positives)
    if not gold:
        return with_spans(unique(retrieved)), True
    titles = {passage.title for passage in gold if passage.title}
    same_page = with_spans(passage for passage in retrieved if passage.title in titles)
    return unique([*gold, *same_page])[: options.max_positives], False


def answer_spans(
    passage: Passage, item: Example | ReadingItem, *, inputs: InputEncoder, limit: int
) -> list[tuple[int, int]]:
    """The first ``limit`` places of an answer, in tokens of the whole input (question and title before the text)."""
    places = answer_places(passage.text, item.answers)
    if not places:
        return []
    (encoded,) = inputs.pairs(inputs.questions([item.question]).ids, [passage])
    spans = token_spans(places, encoded.offsets, limit=limit)
    return [(encoded.text_at + first, encoded.text_at + last) for first, last in spans]


def unique(passages: Iterable[Passage]) -> list[Passage]:
    """The passages without repeats of title and text, in order; files often name one passage by two ids."""
    first: dict[tuple[str, str], Passage] = {}
    for passage in passages:
        first.setdefault((passage.title, passage.text), passage)
    return list(first.values())


def items_digest(items: Iterable[ReadingItem]) -> str:
    """Sha256 of questions, answers, positives and negatives, 16 characters: whether a resumed run has the same data."""
    total = hashlib.sha256()
    for item in items:
        positives, negatives = ([(p.title, p.text) for p in part] for part in (item.positives, item.negatives))
        total.update(json.dumps([item.question, item.answers, positives, negatives]).encode())
    return total.hexdigest()[:16]


def log_counts(counts: ReadingCounts) -> None:
    """Say what became of the training questions."""
    log.info("%d questions to train on, %d of them distantly supervised", counts.kept, counts.distant)
    if counts.dropped:
        log.warning("dropped %d questions: no passage of theirs has an answer span", counts.dropped)
    if counts.short:
        log.warning("%d questions lack negatives and get passages of other questions instead", counts.short)
