"""Which passages count, by hand and against the plain functions."""

from __future__ import annotations

import numpy as np
import pytest

from ragkit.errors import ConfigError
from ragkit.eval import relevance
from ragkit.eval.relevance import answer_bearing, gold_passages, matchers
from ragkit.metrics import contains_answer, has_answer
from ragkit.types import Example, Passage

ROWS = np.array([[0, 4, -1], [2, 5, 3], [-1, -1, -1]])
EXAMPLES = [
    Example("a", "?", ("Paris", "Madrid"), positives=(Passage("p4", ""), Passage("p4", ""), Passage("gone", ""))),
    Example("b", "?", ("shakespeare",)),
    Example("c", "?", ()),
]


def test_each_rank_is_matched_against_its_own_question(store):
    """Passages are matched in order of row: a slip in the way back gives a hit to another question or rank."""
    found = answer_bearing(ROWS, EXAMPLES, store, rules=matchers("text"))
    assert found["hit"].tolist() == [[True, True, False], [True, False, False], [False] * 3]
    assert found["hit_substring"].tolist() == [[True, True, False], [True, True, False], [False] * 3]


def test_blocks_of_passages_change_nothing_and_agree_with_the_plain_functions(store, monkeypatch):
    """The blocks bound memory: a passage at their border must not be lost."""
    rng = np.random.default_rng(0)
    rows = np.array([rng.permutation(6) for _ in range(20)])
    words = ["Paris", "Madrid", "Spain", "stage", "Shakespeare", "is the"]
    examples = [Example(str(i), "?", tuple(rng.choice(words, size=2).tolist())) for i in range(20)]
    passages = store.take(range(6))
    wanted = {
        name: [[match(passages[r].text, e.answers) for r in line] for line, e in zip(rows, examples, strict=True)]
        for name, match in (("hit", has_answer), ("hit_substring", contains_answer))
    }
    for block in (1, 2, 4096):
        monkeypatch.setattr(relevance, "_BLOCK", block)
        found = answer_bearing(rows, examples, store, rules=matchers("text"))
        assert {name: matrix.tolist() for name, matrix in found.items()} == wanted


def test_a_title_is_no_evidence(store):
    """DPR matches the text; counting titles gives other figures under the same name."""
    assert not answer_bearing(np.array([[3]]), [Example("a", "?", ("Nothing",))], store, rules=matchers("text"))[
        "hit"
    ].any()


def test_regex_answers_are_searched_as_patterns(store):
    """Matched as text, a pattern is found nowhere and every figure is 0."""
    examples = [Example("a", "?", ("^par.s",)), Example("b", "?", ("(",)), Example("c", "?", ("written by .*speare",))]
    found = answer_bearing(np.array([[0], [0], [2]]), examples, store, rules=matchers("regex"))
    assert found["hit_regex"].tolist() == [[True], [False], [True]]
    with pytest.raises(ConfigError, match="choose from"):
        matchers("glob")


def test_gold_passages_are_found_by_id_once_each(store):
    """A positive listed twice must not make two gold passages; one outside the corpus stays in the denominator."""
    gold = gold_passages(ROWS, EXAMPLES, store)
    assert gold.ids == [("p4", "gone"), (), ()]
    assert gold.count.tolist() == [2, 0, 0]
    assert gold.found.tolist() == [[False, True, False], [False] * 3, [False] * 3]
    assert gold.n_unknown == 1
    assert gold.is_usable


def test_gold_passages_of_another_corpus_are_not_usable(store):
    """With no id in the corpus every recall would be 0, which says nothing of the retriever."""
    assert not gold_passages(ROWS[:1], [Example("a", "?", ("x",), positives=(Passage("gone", ""),))], store).is_usable
    assert not gold_passages(ROWS, EXAMPLES[1:2] * 3, store).is_usable
