"""What is rank-bm25's own; what it shares with BM25 is in test_bm25.py."""

from __future__ import annotations

import numpy as np
import pytest

from ragkit.corpus import write_store
from ragkit.errors import IndexCorrupt
from ragkit.retriever.rank_bm25 import RankBM25
from ragkit.types import Passage


@pytest.fixture
def fitted(tmp_path):
    texts = ["red fox", "red red dog", "blue dog runs", "fox", "sun"]
    store = write_store((Passage(str(row), text) for row, text in enumerate(texts)), tmp_path / "corpus")
    return RankBM25(stemmer=None, stopwords=None).fit(store)


def test_scores_equal_okapi_worked_by_hand(fitted):
    """Idf ln(3.5/2.5), weight f * 1.9 / (f + norm), norm 0.9 for length 2 and 1.08 for length 3."""
    idf = np.log(3.5 / 2.5)
    hits = fitted.search(["red"], k=2)
    assert hits.rows.tolist() == [[1, 0]]
    np.testing.assert_allclose(hits.scores, [[idf * 2 * 1.9 / 3.08, idf * 1.9 / 1.9]], rtol=1e-6)


def test_a_passage_is_no_hit_where_its_terms_weigh_nothing(tmp_path):
    """In two passages every single term has idf ln(1.5/1.5) = 0: the score is 0, as for a passage without it."""
    store = write_store([Passage("a", "cat"), Passage("b", "dog")], tmp_path / "corpus")
    assert RankBM25().fit(store).search(["cat"], k=2).rows.tolist() == [[-1, -1]]


def test_a_truncated_file_is_named_as_damage(fitted, tmp_path):
    """Fewer lines than passages would shift nothing but lose the last passages silently."""
    fitted.save(tmp_path / "index")
    path = tmp_path / "index" / "terms.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(IndexCorrupt, match="terms of 4 passages, 5 expected"):
        RankBM25.load(tmp_path / "index")
