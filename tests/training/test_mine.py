"""Mining: never a passage with an answer or a gold passage, from any index, and the counts say what was left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ragkit.corpus import PassageStore, load_examples, write_store
from ragkit.errors import ConfigError, InputError
from ragkit.metrics import has_answer
from ragkit.training.mine import MineJob, MinePolicy, MineReport, mine
from ragkit.types import Example, Passage, SearchResult

PASSAGES = [
    Passage("gold", "Paris is where the king lived."),
    Passage("copy", "Paris  is where the KING lived."),
    Passage("answer", "They called it Lutetia, later Paris."),
    Passage("title", "The capital of France.", "Paris"),
    Passage("part", "Parisian bread is long."),
    Passage("other", "London is old."),
    Passage("last", "Rome is older."),
]


class _InOrder:
    """A retriever that finds every passage, in the order of the store."""

    corpus_digest = ""

    def search(self, queries: Sequence[str], *, k: int) -> SearchResult:
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        rows[:, : len(PASSAGES)] = np.arange(len(PASSAGES))[:k]
        return SearchResult(rows, np.where(rows >= 0, -rows, -np.inf).astype(np.float32))


@pytest.fixture
def store(tmp_path: Path) -> PassageStore:
    return write_store(PASSAGES, tmp_path / "store")


def _mine(example: Example, store: PassageStore, **policy: int | bool) -> tuple[list[str], MineReport]:
    report = MineReport()
    policy = {"k": 10, "n": 9, **policy}
    (found,) = mine([example], _InOrder(), store=store, policy=MinePolicy(**policy), report=report)  # type: ignore[arg-type]
    return [passage.id for passage in found.hard_negatives], report


def test_no_hit_with_an_answer_and_no_gold_passage_by_id_or_text_becomes_a_negative(store):
    """Guards against false negatives, which teach the retriever to push the answer away."""
    example = Example("q", "where did the king live", ("paris",), (PASSAGES[0],))
    negatives, report = _mine(example, store)
    assert negatives == ["part", "other", "last"]
    assert (report.gold, report.with_answer, report.negatives, report.without_any) == (2, 2, 3, 0)
    assert "left out: 2 passages with an answer, 2 gold" in str(report)


def test_gold_passage_given_by_id_alone_is_known_by_its_text_too_and_gets_it(store):
    example = Example("q", "where", ("Berlin",), (Passage("gold", ""),))
    negatives, report = _mine(example, store)
    assert negatives == ["answer", "title", "part", "other", "last"]
    assert report.gold == 2
    (found,) = mine([example], _InOrder(), store=store, policy=MinePolicy(10, 1), report=MineReport())
    assert found.positives == (PASSAGES[0],)


def test_n_skip_and_keep_do_what_they_say(store):
    example = Example("q", "where", ("Paris",), (), (PASSAGES[5], Passage("mine", "Madrid is sunny.")))
    assert _mine(example, store, n=2)[0] == ["part", "other"]
    assert _mine(example, store, n=2, skip=5)[0] == ["other", "last"]
    assert _mine(example, store, n=2, keep=True)[0] == ["other", "mine", "part", "last"]


def test_negatives_kept_from_the_file_must_be_fit_too_and_are_counted(store):
    """Guards against false negatives that a file brings: an answer, a gold passage, an id that no text is known of."""
    answer, copy, by_id = PASSAGES[2], PASSAGES[1], Passage("part", "")
    own = (answer, Passage("s", "Berlin is in Germany.", "Paris"), copy, by_id, Passage("gone", ""), PASSAGES[5])
    example = Example("q", "where", ("Paris",), (PASSAGES[0],), own)
    negatives, report = _mine(example, store, n=1, skip=4, keep=True)
    assert negatives == ["part", "other", "last"]
    assert (report.kept, report.negatives, report.with_answer, report.gold, report.without_text) == (2, 1, 2, 1, 1)
    assert "1 hard negatives for 1 questions and 2 kept" in str(report)
    control = Example("q", "where", ("Berlin",), (), own)
    assert _mine(control, store, n=1, skip=4, keep=True)[0] == ["answer", "copy", "part", "other", "last"]


def test_policies_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="n=11 hard negatives from k=10"):
        MinePolicy(10, 11)
    with pytest.raises(ConfigError, match="skip"):
        MinePolicy(10, 1, 10)


def test_file_of_a_bm25_index_trains_dpr_and_is_not_overwritten(tiny, tmp_path: Path):
    """From end to end over a real BM25 index: what is written can be read as training data, and is clean."""
    from ragkit.corpus import write_examples
    from ragkit.training.questions import usable_questions

    questions = tiny.questions(20)
    corpus = tmp_path / "corpus.tsv"
    lines = [f"{p.id}\t{p.text}\t{p.title}" for q in questions for p in (*q.positives, *q.hard_negatives)]
    corpus.write_text("id\ttext\ttitle\n" + "\n".join(lines) + "\n")
    write_examples(questions, tmp_path / "q.jsonl", format="dpr")
    index_dir = _bm25_index(corpus, tmp_path / "index")
    job = MineJob(str(tmp_path / "q.jsonl"), index_dir, tmp_path / "mined.jsonl", k=60, n=3)
    job.run()
    mined, counts = usable_questions(load_examples(str(tmp_path / "mined.jsonl")))
    assert counts.used == 20
    assert sum(len(example.hard_negatives) for example in mined) > 40
    for example in mined:
        gold = {passage.id for passage in example.positives}
        assert not any(has_answer(p.text, example.answers) or p.id in gold for p in example.hard_negatives)
    record = json.loads((tmp_path / "mined.jsonl").read_text().splitlines()[0])
    assert {"question", "answers", "positive_ctxs", "hard_negative_ctxs"} <= set(record)
    with pytest.raises(InputError, match="overwrite=true"):
        job.run()


def _bm25_index(corpus: Path, folder: Path) -> Path:
    from ragkit.binding import build
    from ragkit.config import compose

    build(compose("index", [f"corpus={corpus}", "retriever=bm25", f"out={folder}"])).run()
    return folder
