"""Which of the passages found count, for every question and rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int64

from ragkit.errors import ConfigError
from ragkit.metrics.answers import normalize_answer
from ragkit.metrics.matching import line_has_answer, normalized_contains, regex_match, token_line
from ragkit.types import Example, Passage

_BLOCK = 4096  # passages in memory at once


@runtime_checkable
class Passages(Protocol):
    """What an evaluation reads of a passage store."""

    def take(self, rows: np.ndarray) -> list[Passage]:
        """The passages of the rows."""
        ...

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """The row of every id, -1 for an unknown one."""
        ...


@dataclass(frozen=True, slots=True)
class Matcher:
    """A rule of containment in two steps, so that each passage and each answer is prepared once."""

    prepare: Callable[[str], str]
    prepare_answer: Callable[[str], str]
    matches: Callable[[str, Sequence[str]], bool]


# by the kind of the answers: metric name -> rule
MATCHERS: dict[str, dict[str, Matcher]] = {
    "text": {
        "hit": Matcher(token_line, token_line, line_has_answer),
        "hit_substring": Matcher(normalize_answer, normalize_answer, normalized_contains),
    },
    "regex": {"hit_regex": Matcher(str, str, regex_match)},
}


def matchers(kind: str) -> dict[str, Matcher]:
    """The rules for answers of this kind; ConfigError for an unknown kind."""
    if kind not in MATCHERS:
        raise ConfigError(f"unknown kind of answers {kind!r}; choose from {sorted(MATCHERS)}")
    return MATCHERS[kind]


def answer_bearing(
    rows: Int64[np.ndarray, "query k"], examples: Sequence[Example], store: Passages, *, rules: dict[str, Matcher]
) -> dict[str, Bool[np.ndarray, "query k"]]:
    """By metric name: does the passage at each rank contain an answer; its text decides, not its title.

    Each passage is read and prepared once, however many questions found it; memory holds 4,096 at a time.
    """
    found = {name: np.zeros(rows.shape, dtype=bool) for name in rules}
    answers = {
        name: [[rule.prepare_answer(answer) for answer in example.answers] for example in examples]
        for name, rule in rules.items()
    }
    queries, ranks = np.nonzero(rows >= 0)
    distinct, places = np.unique(rows[queries, ranks], return_inverse=True)
    by_place = np.argsort(places, kind="stable")
    for start in range(0, len(distinct), _BLOCK):
        texts = [passage.text for passage in store.take(distinct[start : start + _BLOCK])]
        low, high = np.searchsorted(places[by_place], [start, start + _BLOCK])
        pairs = by_place[low:high]
        for name, rule in rules.items():
            prepared = [rule.prepare(text) for text in texts]
            found[name][queries[pairs], ranks[pairs]] = [
                rule.matches(prepared[places[pair] - start], answers[name][queries[pair]]) for pair in pairs
            ]
    return found


@dataclass(frozen=True, slots=True)
class Gold:
    """The gold passages of every question: ids, whether each rank holds one, and how many are not in the corpus."""

    ids: list[tuple[str, ...]]
    found: Bool[np.ndarray, "query k"]
    n_unknown: int

    @property
    def count(self) -> Int64[np.ndarray, " query"]:
        """Gold passages of each question, those outside the corpus among them."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)

    @property
    def is_usable(self) -> bool:
        """Whether any gold passage is in the corpus: else the ids are those of another corpus."""
        return int(self.count.sum()) > self.n_unknown


def gold_passages(rows: Int64[np.ndarray, "query k"], examples: Sequence[Example], store: Passages) -> Gold:
    """The gold passages by the ids of the examples' positives; one outside the corpus counts as not found."""
    ids: list[tuple[str, ...]] = [tuple(dict.fromkeys(p.id for p in example.positives)) for example in examples]
    flat = [passage_id for of_question in ids for passage_id in of_question]
    gold: Any = store.rows(flat) if flat else np.zeros(0, dtype=np.int64)
    ends = np.cumsum([len(of_question) for of_question in ids])
    known = [of_question[of_question >= 0] for of_question in np.split(gold, ends[:-1])]
    found = np.array([np.isin(line, rows_of) for line, rows_of in zip(rows, known, strict=True)], dtype=bool)
    return Gold(ids, found.reshape(rows.shape), int((gold < 0).sum()))
