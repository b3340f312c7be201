"""BM25's properties on random corpora: the index is the formula, and the order of words does not matter."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ragkit.retriever.bm25 import BM25
from ragkit.types import Passage

WORDS = ["aa", "bb", "cc", "dd", "ee", "ff"]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=8), min_size=1, max_size=8)
query = st.lists(st.sampled_from([*WORDS, "unknown"]), max_size=5)


class Corpus:
    """Passages in memory."""

    digest = "corpus"

    def __init__(self, passages):
        self.passages = [Passage(str(row), " ".join(words)) for row, words in enumerate(passages)]

    def __len__(self):
        return len(self.passages)

    def batches(self, size):
        assert size > 0
        yield self.passages


def lucene(passages, terms, k1=0.9, b=0.4):
    """The formula of definitions.md, passage by passage, in double precision."""
    mean = sum(map(len, passages)) / len(passages)
    scores = []
    for words in passages:
        score = 0.0
        for term in terms:
            n_with = sum(term in other for other in passages)
            frequency = words.count(term)
            if frequency:
                idf = math.log(1 + (len(passages) - n_with + 0.5) / (n_with + 0.5))
                score += idf * frequency / (frequency + k1 * (1 - b + b * len(words) / mean))
        scores.append(score)
    return scores


def search(passages, terms, k):
    hits = BM25(stemmer=None, stopwords=None).fit(Corpus(passages)).search([" ".join(terms)], k=k)
    return hits.rows[0], hits.scores[0]


@settings(deadline=None, max_examples=150)
@given(texts, query, st.integers(1, 10))
def test_the_index_is_the_formula_for_every_passage_and_cut(passages, terms, k):
    """A posting lost or counted twice, or a heap that drops a hit at some k, gives a plausible but wrong list."""
    wanted = np.array(lucene(passages, terms))
    rows, scores = search(passages, terms, k)
    found = rows >= 0
    assert found.sum() == min(k, (wanted > 0).sum())
    np.testing.assert_allclose(scores[found], wanted[rows[found]], rtol=1e-5)
    np.testing.assert_allclose(scores[found], np.sort(wanted)[::-1][: found.sum()], rtol=1e-5)
    assert not found[found.argmin() :].any() or found.all()
    assert np.isneginf(scores[~found]).all()
    ties = np.diff(scores[found]) == 0
    assert (np.diff(rows[found])[ties] > 0).all()


@settings(deadline=None, max_examples=50)
@given(texts, query, st.randoms(use_true_random=False))
def test_the_order_of_words_changes_no_score(passages, terms, random):
    """BM25 counts words; an order-dependent score means that words are cut, or that positions leak in."""
    shuffled = [random.sample(words, len(words)) for words in passages]
    rows, scores = search(passages, terms, 8)
    other_rows, other_scores = search(shuffled, random.sample(terms, len(terms)), 8)
    np.testing.assert_allclose(np.sort(scores), np.sort(other_scores), rtol=1e-5)
    assert set(rows.tolist()) == set(other_rows.tolist())


@settings(deadline=None, max_examples=50)
@given(texts, st.sampled_from(WORDS))
def test_one_more_occurrence_in_place_of_another_word_raises_the_score(passages, term):
    """The control: the counts do matter. Same lengths, same idf, one occurrence more."""
    assume(any(term in words and set(words) != {term} for words in passages))
    row = next(r for r, words in enumerate(passages) if term in words and set(words) != {term})
    before = dict(zip(*(a.tolist() for a in search(passages, [term], 8)), strict=False))[row]
    other = next(i for i, word in enumerate(passages[row]) if word != term)
    changed = [list(words) for words in passages]
    changed[row][other] = term
    after = dict(zip(*(a.tolist() for a in search(changed, [term], 8)), strict=False))[row]
    assert after > before


@settings(deadline=None, max_examples=30)
@given(texts)
def test_a_query_of_synonyms_only_finds_nothing(passages):
    """BM25 knows words, not meanings: whatever it returned for a foreign word would be arbitrary."""
    rows, _ = search(passages, ["automobile", "unknown"], 4)
    assert rows.tolist() == [-1, -1, -1, -1]
