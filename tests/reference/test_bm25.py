"""BM25 against bm25s, against rank-bm25, and against the published figures on real questions."""

from __future__ import annotations

import csv
import json

import bm25s
import numpy as np
import pytest

from ragkit.corpus import write_store
from ragkit.metrics import has_answer, hit_at_k
from ragkit.retriever.bm25 import BM25, METHODS
from ragkit.retriever.rank_bm25 import RankBM25
from ragkit.types import Passage

N_PASSAGES, N_WORDS = 300, 400


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """300 passages of 5 to 40 words of a skewed vocabulary; no word is in more than half of them."""
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(10, N_WORDS + 10)
    texts = [
        " ".join(f"w{word}" for word in rng.choice(N_WORDS, size=rng.integers(5, 40), p=weights / weights.sum()))
        for _ in range(N_PASSAGES)
    ]
    passages = (Passage(str(row), text) for row, text in enumerate(texts))
    return write_store(passages, tmp_path_factory.mktemp("store") / "corpus")


@pytest.fixture(scope="module")
def queries():
    rng = np.random.default_rng(1)
    return [" ".join(f"w{word}" for word in rng.integers(N_WORDS, size=6)) for _ in range(50)]


def plain(**options):
    return BM25(stemmer=None, stopwords=None, **options)


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_those_of_bm25s_called_directly(store, queries, method):
    """Our loop replaces bm25s's selection: a slip in it changes scores or ranks without an error."""
    ours = plain(method=method, k1=1.2, b=0.75).fit(store)
    tokens = [ours.analyzer.passage_terms(p) for batch in store.batches(100) for p in batch]
    engine = bm25s.BM25(k1=1.2, b=0.75, method=method)
    engine.index(tokens, show_progress=False)
    theirs = np.stack([engine.get_scores(ours.analyzer.terms(query)) for query in queries])
    hits = ours.search(queries, k=N_PASSAGES)
    found = np.zeros_like(theirs)
    for line, (rows, scores) in enumerate(zip(hits.rows, hits.scores, strict=True)):
        found[line, rows[rows >= 0]] = scores[rows >= 0]
    np.testing.assert_allclose(found, theirs, rtol=1e-5, atol=1e-6)
    assert (found > 0).any(axis=1).all()


def test_bm25s_opens_what_we_save(store, queries, tmp_path):
    """The files are promised to be bm25s's own."""
    ours = plain().fit(store)
    ours.save(tmp_path)
    theirs = bm25s.BM25.load(tmp_path, mmap=True, show_progress=False, override_params={"backend": "numpy"})
    tokens = [ours.analyzer.terms(query) for query in queries]
    result = theirs.retrieve(tokens, k=5, show_progress=False, backend_selection="numpy")
    np.testing.assert_allclose(ours.search(queries, k=5).scores, result.scores, rtol=1e-6)


def test_rank_bm25_agrees_with_atire_weights_and_robertson_idf(store, queries):
    """The one pair of variants that agrees: Okapi's weight has the factor k1 + 1 (ATIRE's), its idf is Robertson's.

    They differ only for words in more than half of the passages (rank-bm25: epsilon times the mean idf; bm25s: 0),
    which this corpus lacks.
    """
    theirs = RankBM25(stemmer=None, stopwords=None).fit(store).search(queries, k=20)
    ours = plain(method="atire", idf_method="robertson").fit(store).search(queries, k=20)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    distinct = np.diff(theirs.scores, axis=1, prepend=np.inf, append=-np.inf)
    is_clear = (distinct[:, :-1] < -1e-4) & (distinct[:, 1:] < -1e-4)  # float32 may swap what differs by less
    np.testing.assert_array_equal(ours.rows[is_clear], theirs.rows[is_clear])
    assert is_clear.mean() > 0.5


@pytest.mark.parametrize("options", [{}, {"method": "atire"}, {"method": "robertson"}, {"idf_method": "robertson"}])
def test_no_other_pair_of_variants_agrees_with_rank_bm25(store, queries, options):
    """The control: if any variant passed, the agreement above would show nothing."""
    theirs = RankBM25(stemmer=None, stopwords=None).fit(store).search(queries, k=20)
    ours = plain(**options).fit(store).search(queries, k=20)
    assert np.abs(ours.scores - theirs.scores).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "hits"), [("nq.test", (0.537, 0.795, 0.889, 0.942)), ("squad.test", (0.803, 0.879, 0.932, 0.955))]
)
def test_hits_on_real_questions_are_the_published_ones(real_index, data_dir, name, hits):
    """The figures of the data's README, made with bm25s alone; a slip in analysis or matching shows here first."""
    retriever, passages = real_index
    examples = [json.loads(line) for line in (data_dir / f"{name}.jsonl").read_text().splitlines()]
    found = retriever.search([example["question"] for example in examples], k=100).rows
    has = [
        [row >= 0 and has_answer(passages[row].text, example["answers"]) for row in rows]
        for rows, example in zip(found.tolist(), examples, strict=True)
    ]
    for k, expected in zip((1, 5, 20, 100), hits, strict=True):
        assert hit_at_k(np.array(has), k).mean() == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
def test_gold_passages_of_real_questions_are_found_as_published(real_index, data_dir):
    """ "Gold recall" of the data's README is the share of questions with a gold passage in the top k."""
    retriever, passages = real_index
    examples = [json.loads(line) for line in (data_dir / "nq.test.jsonl").read_text().splitlines()]
    gold = [{passage["id"] for passage in example["positive_ctxs"]} for example in examples]
    found = retriever.search([example["question"] for example in examples], k=100).rows
    is_gold = np.array([[passages[r].id in ids for r in rows] for rows, ids in zip(found, gold, strict=True)])
    for k, expected in zip((1, 5, 20, 100), (0.337, 0.679, 0.832, 0.900), strict=True):
        assert hit_at_k(is_gold, k).mean() == pytest.approx(expected, abs=0.02)


@pytest.fixture(scope="module")
def real_index(data_dir, tmp_path_factory):
    with (data_dir / "corpus.tsv").open(newline="", encoding="utf-8") as lines:
        records = csv.reader(lines, delimiter="\t")
        next(records)
        passages = [Passage(id=record[0], text=record[1], title=record[2]) for record in records]
    return BM25().fit(write_store(passages, tmp_path_factory.mktemp("real") / "corpus")), passages
