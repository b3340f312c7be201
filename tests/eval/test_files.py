"""What an evaluation writes and reads back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ragkit.corpus.formats import read_qrels, read_run
from ragkit.errors import FormatError, InputError
from ragkit.eval import files
from ragkit.types import Evidence, Example, Passage, Prediction, SearchResult

EXAMPLES = [Example("a", "who?", ("x", "y")), Example("b", "what?", ())]


def test_scores_come_back_as_they_were_written(tmp_path):
    """A comparison reads these files: a value rounded or a null read as 0 would change its verdict."""
    scores = {"hit@1": np.array([1 / 3, np.nan]), "f1": np.array([0.0, 1.0])}
    files.write_questions(tmp_path, EXAMPLES, scores)
    ids, values = files.read_scores(tmp_path)
    assert ids == ["a", "b"]
    assert list(values) == ["hit@1", "f1"]
    np.testing.assert_array_equal(values["hit@1"], scores["hit@1"])
    first = json.loads((tmp_path / "questions.jsonl").read_text().splitlines()[0])
    assert first == {"id": "a", "question": "who?", "answers": ["x", "y"], "hit@1": 1 / 3, "f1": 0.0}


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, InputError, "is no evaluation"),
        ("", InputError, "no questions"),
        ("{\n", FormatError, "questions.jsonl:1: not JSON"),
        ('{"id": "a", "f1": 1}\n[1]\n', FormatError, "questions.jsonl:2: expected an object"),
        ('{"id": "a", "f1": 1}\n{"id": "b"}\n', FormatError, "questions.jsonl:2: expected the numbers"),
        ('{"id": "a", "f1": "1"}\n', FormatError, "questions.jsonl:1: expected the numbers"),
    ],
)
def test_a_folder_that_is_no_evaluation_is_refused(tmp_path, content, error, message):
    """A traceback out of a comparison does not say which of the two folders is wrong."""
    if content is not None:
        (tmp_path / "questions.jsonl").write_text(content)
    with pytest.raises(error, match=message):
        files.read_scores(tmp_path)


def test_an_evaluation_is_replaced_only_when_asked(tmp_path):
    """A second run with another index into the same folder would silently replace the first one's figures."""
    files.prepare_out(tmp_path / "new", overwrite=False)
    (tmp_path / "new" / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match="overwrite=true"):
        files.prepare_out(tmp_path / "new", overwrite=False)
    files.prepare_out(tmp_path / "new", overwrite=True)
    assert not (tmp_path / "new" / "metrics.json").exists()


def test_nothing_of_an_earlier_evaluation_stays_beside_the_new_one(tmp_path, monkeypatch):
    """Predictions of a reader that the new run did not have would be read as the new run's."""
    names = ["metrics.json", "questions.jsonl", "predictions.jsonl", "run.trec", "qrels.trec"]
    for name in [*names, "notes.txt", "config.yaml"]:
        (tmp_path / name).write_text("{}")
    removed, unlink = [], Path.unlink

    def recorded(path, missing_ok=False):
        removed.append(path.name)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", recorded)
    files.prepare_out(tmp_path, overwrite=True)
    assert removed[0] == "metrics.json"
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "config.yaml"}


def test_ties_fall_by_the_smallest_step():
    """trec_eval orders equal scores by passage id: its metrics would be of another ranking than ours."""
    tied = np.array([2.0, 2.0, 2.0, 1.0, 1.0], dtype=np.float32)
    fallen = files.falling(tied)
    assert all(later < earlier for earlier, later in zip(fallen, fallen[1:], strict=False))
    np.testing.assert_allclose(fallen, tied, rtol=1e-6)
    assert files.falling(np.array([3.0, 1.0], dtype=np.float32)) == [3.0, 1.0]


def test_trec_files_hold_the_hits_in_order_and_the_judged_questions(tmp_path):
    """A missing hit (-1, -inf) must not appear in a run, nor a question without gold passages in the judgements."""
    scores = np.array([[2.0, 2.0, -np.inf], [-np.inf] * 3], dtype=np.float32)
    hits = SearchResult(np.array([[4, 1, -1], [-1] * 3]), scores)
    files.write_trec(tmp_path, EXAMPLES, hits=(hits, [["p4", "p1"], []]), gold=[("p1",), ()])
    run = read_run(tmp_path / "run.trec")
    assert [passage for passage, _ in run["a"]] == ["p4", "p1"]
    assert "b" not in run
    assert read_qrels(tmp_path / "qrels.trec") == {"a": {"p1": 1}}


def test_predictions_keep_their_evidence(tmp_path):
    """-inf is not JSON: other readers fail on it, so no answer found is null."""
    evidence = (Evidence(Passage("p1", "text", "Title"), 2.5, 0.75),)
    files.write_predictions(tmp_path, EXAMPLES, [Prediction("x", 0.5, evidence), Prediction("", -np.inf)])
    first, second = map(json.loads, (tmp_path / "predictions.jsonl").read_text().splitlines())
    assert first["prediction"] == "x"
    assert first["evidence"] == [{"passage_id": "p1", "title": "Title", "retriever_score": 2.5, "contribution": 0.75}]
    assert (second["prediction"], second["score"]) == ("", None)
