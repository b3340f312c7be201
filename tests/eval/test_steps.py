"""Searching and reading in batches."""

from __future__ import annotations

import numpy as np

from ragkit.eval import steps
from ragkit.retriever.bm25 import BM25
from ragkit.types import Example, Prediction


def test_batches_of_questions_change_no_hit(store, monkeypatch):
    """A batch lost or out of order shifts every later question's hits."""
    retriever = BM25().fit(store)
    questions = ["capital", "Hamlet", "Spain", "zebra", "stage plays"]
    whole, seconds = steps.search(retriever, questions, k=3)
    monkeypatch.setattr(steps, "_SEARCH_BATCH", 2)
    parts, _ = steps.search(retriever, questions, k=3)
    np.testing.assert_array_equal(whole.rows, parts.rows)
    np.testing.assert_array_equal(whole.rows, retriever.search(questions, k=3).rows)
    assert seconds > 0


def test_the_reader_gets_each_questions_own_passages_with_their_scores(store, monkeypatch):
    """Scores of one rank under the passage of another would mislead every reader that weighs by score."""
    monkeypatch.setattr(steps, "_READ_BATCH", 2)
    retriever = BM25().fit(store)
    questions = ["capital", "zebra", "Hamlet"]
    hits = retriever.search(questions, k=3)

    class Echo:
        def answer(self, questions, passages):
            return [
                Prediction(q + ":" + ",".join(f"{p.passage.id}={p.score:.4f}" for p in found), 0.0)
                for q, found in zip(questions, passages, strict=True)
            ]

        def save_pretrained(self, folder):
            """Nothing to save."""

    examples = [Example(str(i), q, ()) for i, q in enumerate(questions)]
    predictions, _ = steps.read(Echo(), examples, (hits, store), n_passages=2)
    for query, prediction in enumerate(predictions):
        wanted = [
            f"p{row}={score:.4f}"
            for row, score in zip(hits.rows[query, :2], hits.scores[query, :2], strict=True)
            if row >= 0
        ]
        assert prediction.text == f"{questions[query]}:{','.join(wanted)}"
