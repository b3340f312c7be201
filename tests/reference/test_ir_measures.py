"""Our ranking metrics against trec_eval's (pytrec_eval, ir_measures), on the TREC files that we write."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from ir_measures import RR, R, Success, nDCG

from ragkit.eval.files import write_trec
from ragkit.eval.relevance import Gold
from ragkit.eval.scores import gold_scores
from ragkit.types import Example, SearchResult

K = 20


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """60 questions with ties, missing hits, several gold passages, some outside the run, some questions with none."""
    folder = tmp_path_factory.mktemp("trec")
    rng = np.random.default_rng(0)
    rows = np.array([rng.permutation(24)[:K] for _ in range(60)])
    scores = -np.sort(-rng.integers(1, 8, size=rows.shape)).astype(np.float32)  # small integers: many ties
    for query, n_found in enumerate([0, 0, 1, *rng.integers(5, K + 1, size=57)]):
        rows[query, n_found:], scores[query, n_found:] = -1, -np.inf
    gold_ids = [tuple(f"p{row}" for row in rng.permutation(26)[:n]) for n in rng.integers(0, 5, size=60)]
    examples = [Example(f"q{query}", "?", ("x",)) for query in range(60)]
    ids = [[f"p{row}" for row in line if row >= 0] for line in rows]
    found = np.array([[f"p{row}" in of for row in line] for line, of in zip(rows, gold_ids, strict=True)])
    write_trec(folder, examples, hits=(SearchResult(rows, scores), ids), gold=gold_ids)
    return folder, examples, gold_scores(Gold(gold_ids, found, 0), k=K)


def judged(examples, values):
    return {e.id: value for e, value in zip(examples, values.tolist(), strict=True) if not np.isnan(value)}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("recall@5", R @ 5), ("recall@20", R @ 20), ("hit_gold@5", Success @ 5), ("mrr@20", RR), ("ndcg@10", nDCG @ 10)],
)
def test_ir_measures_reads_our_run_and_finds_our_values(written, ours, theirs):
    """A metric of its own definition under a known name, or a run whose ties scorers order otherwise, differs here."""
    folder, examples, scores = written
    run = ir_measures.read_trec_run(str(folder / "run.trec"))
    qrels = ir_measures.read_trec_qrels(str(folder / "qrels.trec"))
    found = {metric.query_id: metric.value for metric in ir_measures.iter_calc([theirs], qrels, run)}
    wanted = judged(examples, scores[ours])
    assert found == pytest.approx(wanted, abs=1e-6)
    assert 0.1 < np.mean(list(wanted.values())) < 0.9


def test_pytrec_eval_agrees_question_by_question(written):
    """The same by the C library; it leaves out questions for which nothing was found, which count 0 for us."""
    folder, examples, scores = written
    with (folder / "run.trec").open() as run_file, (folder / "qrels.trec").open() as qrels_file:
        run, qrels = pytrec_eval.parse_run(run_file), pytrec_eval.parse_qrel(qrels_file)
    measured = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank", "ndcg_cut.10", "recall.5"}).evaluate(run)
    for ours, theirs in (("mrr@20", "recip_rank"), ("ndcg@10", "ndcg_cut_10"), ("recall@5", "recall_5")):
        wanted = judged(examples, scores[ours])
        for question_id, values in measured.items():
            assert values[theirs] == pytest.approx(wanted.pop(question_id), abs=1e-6)
        assert set(wanted.values()) <= {0.0}


def test_ties_left_as_they_are_would_change_the_figures(written):
    """The control: with equal scores in the run trec_eval orders by passage id, and its values are not ours."""
    folder, examples, scores = written
    rounded = [
        ir_measures.ScoredDoc(doc.query_id, doc.doc_id, round(doc.score))
        for doc in ir_measures.read_trec_run(str(folder / "run.trec"))
    ]
    qrels = ir_measures.read_trec_qrels(str(folder / "qrels.trec"))
    found = {metric.query_id: metric.value for metric in ir_measures.iter_calc([RR], qrels, rounded)}
    assert found != pytest.approx(judged(examples, scores["mrr@20"]), abs=1e-3)
