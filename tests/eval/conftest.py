"""A tiny corpus with its BM25 index, and an evaluation of it in the place of index directories."""

from __future__ import annotations

import json

import pytest

from ragkit.corpus import write_store
from ragkit.eval import main
from ragkit.retriever.bm25 import BM25
from ragkit.types import Passage

PASSAGES = [
    Passage("p0", "Paris is the capital of France.", "Paris"),
    Passage("p1", "It borders Spain, and the Seine runs through it.", "France"),
    Passage("p2", "Hamlet was written by William Shakespeare.", "Hamlet"),
    Passage("p3", "", "Nothing"),
    Passage("p4", "The capital of Spain is Madrid, far from France.", "Madrid"),
    Passage("p5", "Shakespearean plays are still on stage.", "Plays"),
]
QUESTIONS = [
    {"id": "q0", "question": "capital of France", "answers": ["Paris"], "positive_ctxs": [{"id": "p0"}]},
    {"id": "q1", "question": "capital of Spain", "answers": ["Madrid"], "positive_ctxs": [{"id": "p4"}, {"id": "p9"}]},
    {"id": "q2", "question": "who wrote Hamlet", "answers": ["Shakespeare"], "positive_ctxs": []},
    {"id": "q3", "question": "zebra unicorn", "answers": ["horn"], "positive_ctxs": [{"id": "p5"}]},
    {"id": "q4", "question": "plays on stage", "answers": [], "positive_ctxs": [{"id": "p5"}]},
]


@pytest.fixture
def store(tmp_path):
    return write_store(PASSAGES, tmp_path / "store")


@pytest.fixture
def data(tmp_path):
    for question in QUESTIONS:
        for context in question["positive_ctxs"]:
            context.setdefault("title", "")
            context.setdefault("text", "")
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    return str(path)


@pytest.fixture
def opened(store, monkeypatch):
    """Index directories whose names start with "bm25" or "plain" open as that index of the corpus."""
    indexes = {"bm25": BM25().fit(store), "plain": BM25(stemmer=None, stopwords=None).fit(store)}
    monkeypatch.setattr(main, "open_retriever", lambda folder, **_: indexes[folder])
    monkeypatch.setattr(main, "open_store", lambda _: store)
    return indexes
