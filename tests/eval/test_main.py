"""The eval command, from question file to metrics.json."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from ragkit import cli
from ragkit.errors import ConfigError, InputError
from ragkit.eval import main
from ragkit.eval.main import EvalJob
from ragkit.retriever.bm25 import BM25
from ragkit.retriever.fusion import Fusion
from ragkit.types import Evidence, Passage, Prediction

PASSAGES = [
    Passage("p0", "Paris is the capital of France.", "Paris"),
    Passage("p1", "It borders Spain, and the Seine runs through it.", "France"),
    Passage("p2", "Hamlet was written by William Shakespeare.", "Hamlet"),
    Passage("p3", "Madrid is the capital of Spain.", "Madrid"),
    Passage("p4", "The capital of Spain is Madrid, far from France.", "Madrid"),
    Passage("p5", "Shakespearean plays are still on stage.", "Plays"),
]


class FirstWord:
    """A reader that answers with the title of the first passage."""

    def __init__(self):
        self.n_passages = []

    def answer(self, questions, passages):
        self.n_passages += [len(found) for found in passages]
        return [
            Prediction(found[0].passage.title, found[0].score, (Evidence(found[0].passage, found[0].score, 1.0),))
            if found
            else Prediction("", float("-inf"))
            for _, found in zip(questions, passages, strict=True)
        ]

    def save_pretrained(self, folder):
        """Nothing to save."""


@pytest.fixture
def evaluate(opened, data, tmp_path):
    assert opened

    def run(name="run", **options):
        EvalJob(**{"data": data, "index_dir": "bm25", "out": tmp_path / name, "k": 5, **options}).run()
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        questions = [json.loads(line) for line in (tmp_path / name / "questions.jsonl").read_text().splitlines()]
        return metrics, questions

    return run


def test_metrics_have_their_value_interval_and_count(evaluate):
    """q0, q1, q2 find their answer at rank 1, q3 finds nothing, q4 has no answers: hit@1 3/4 over 4."""
    metrics, questions = evaluate()
    assert metrics["n"] == 5
    assert metrics["hit@1"]["value"] == 0.75
    assert metrics["hit@1"]["n"] == 4
    assert 0 <= metrics["hit@1"]["low"] < 0.75 < metrics["hit@1"]["high"] <= 1
    assert metrics["recall@5"]["value"] == pytest.approx((1 + 0.5 + 0 + 1) / 4)  # p9 is not in the corpus
    assert metrics["mrr@5"]["value"] == 0.75
    assert metrics["retrieval_questions_per_second"] > 0
    assert [question["hit@1"] for question in questions] == [1, 1, 1, 0, None]
    assert "exact_match" not in metrics
    assert any("not in the corpus: 1 of 5" in note for note in metrics["notes"])
    assert "ndcg@5" in metrics


def test_the_substring_form_has_its_own_name(evaluate):
    """Under hit@k it would be taken for DPR's figure."""
    metrics, _ = evaluate()
    assert {"hit@1", "hit@5", "hit_substring@1", "hit_substring@5"} <= set(metrics)
    assert "hit@20" not in metrics


def test_a_reader_sees_the_first_passages_and_is_scored(evaluate, tmp_path):
    """The reader gets n_passages of the k; an empty list of passages is an empty answer, not an error."""
    reader = FirstWord()
    metrics, questions = evaluate(reader=reader, n_passages=2)
    assert max(reader.n_passages) == 2
    assert reader.n_passages[3] == 0
    assert [question["exact_match"] for question in questions] == [1, 1, 0, 0, None]
    assert metrics["exact_match"]["value"] == 0.5
    assert metrics["reader_questions_per_second"] > 0
    predictions = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in predictions][:4] == ["Paris", "Madrid", "Hamlet", ""]


def test_a_closed_book_evaluation_gives_the_reader_no_passage(evaluate):
    """Passages that slipped through would make closed-book figures far too good."""
    reader = FirstWord()
    metrics, _ = evaluate(reader=reader, n_passages=0)
    assert set(reader.n_passages) == {0}
    assert metrics["n_passages"] == 0
    assert metrics["hit@1"]["value"] > 0


def test_several_indexes_are_fused(evaluate):
    """An index left out of the fusion would go unseen in the figures of the other."""
    seen = []

    def fusion(retrievers):
        seen.append(len(retrievers))
        return Fusion(retrievers)

    metrics, _ = evaluate(index_dir=["bm25", "plain"], fusion=fusion)
    assert seen == [2]
    assert metrics["index_dir"] == ["bm25", "plain"]
    assert metrics["hit@5"]["value"] == 0.75


def test_regex_answers_have_their_own_metrics(evaluate):
    """The token match of a pattern is meaningless and must not appear."""
    metrics, _ = evaluate(answers="regex", reader=FirstWord())
    assert metrics["hit_regex@1"]["value"] == 0.75
    assert "hit@1" not in metrics
    assert "f1" not in metrics
    assert "exact_match_regex" in metrics


def test_the_same_run_twice_gives_the_same_figures(evaluate):
    """An interval that moves from run to run cannot be quoted."""
    first, second = evaluate("one")[0], evaluate("two")[0]
    for figures in (first, second):
        del figures["retrieval_questions_per_second"]
    assert first == second


def test_two_evaluations_are_compared_and_kept(evaluate, tmp_path, capsys):
    """The table must name both runs and the tests be on disk."""
    evaluate("a")
    evaluate("b", index_dir="plain")
    EvalJob(compare=[str(tmp_path / "a"), str(tmp_path / "b")], out=tmp_path / "c").run()
    found = json.loads((tmp_path / "c" / "compare.json").read_text())
    assert found["hit@1"]["n"] == 4
    assert set(found["hit@1"]) == {"a", "b", "difference", "low", "high", "p", "n"}
    assert "hit@1" in capsys.readouterr().out


def test_ids_that_trec_cannot_hold_cost_only_the_trec_files(evaluate, tmp_path):
    """A white space in one id must not throw away an hour of evaluation."""
    path = tmp_path / "spaced.jsonl"
    path.write_text(json.dumps({"id": "q 1", "question": "capital of France", "answers": ["Paris"]}) + "\n")
    metrics, _ = evaluate(data=str(path))
    assert metrics["hit@1"]["value"] == 1
    assert any("no TREC files" in note for note in metrics["notes"])
    assert not (tmp_path / "run" / "run.trec").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": None}, "needs data="),
        ({"out": None}, "needs data="),
        ({"k": 0}, "k is 0"),
        ({"n_passages": -1}, "n_passages -1"),
        ({"answers": "glob"}, "choose from"),
        ({"index_dir": []}, "empty list"),
        ({"compare": ["one"]}, "wants two runs"),
        ({"retriever": BM25()}, "BM25 has no place here"),
    ],
)
def test_a_wrong_option_is_refused_before_any_work(opened, data, tmp_path, options, message):
    """Each would otherwise fail deep inside, or be ignored."""
    assert opened
    with pytest.raises(ConfigError, match=message):
        EvalJob(**{"data": data, "index_dir": "bm25", "out": tmp_path / "run", **options}).run()


def test_an_evaluation_is_not_replaced_unasked(evaluate, tmp_path):
    """The figures of another index would take the place of the first one's, or stay beside them."""
    evaluate(reader=FirstWord())
    with pytest.raises(InputError, match="overwrite=true"):
        evaluate()
    with pytest.raises(KeyError):  # no such index: the earlier evaluation stays
        evaluate(overwrite=True, index_dir="nowhere")
    assert (tmp_path / "run" / "predictions.jsonl").exists()
    evaluate(overwrite=True)
    assert not (tmp_path / "run" / "predictions.jsonl").exists()


def test_metrics_name_the_reader_and_the_retrievers(evaluate):
    """Figures that do not say what made them cannot be told apart a week later."""
    metrics, _ = evaluate(index_dir=["bm25", "plain"])
    assert metrics["retrievers"] == [{"kind": "bm25"}, {"kind": "bm25"}]
    assert metrics["reader"] is None
    reader = FirstWord()
    assert evaluate("b", reader=reader)[0]["reader"] == "FirstWord"
    reader.reference = "runs/reader"
    assert evaluate("c", reader=reader)[0]["reader"] == "runs/reader"


def test_a_reader_with_fresh_heads_is_refused_before_any_work(evaluate, tmp_path):
    """`reader=minilm` is for training: its figures would be those of random answers, without a word."""
    reader = FirstWord()
    reader.is_trained = False
    with pytest.raises(ConfigError, match="fresh weights"):
        evaluate(reader=reader, data="no such file")
    assert not (tmp_path / "run").exists()


def test_an_encoder_over_bm25_indexes_alone_is_refused(evaluate, monkeypatch):
    """It would be ignored, and its figures those of BM25."""
    monkeypatch.setattr(main, "DualEncoder", FirstWord)
    with pytest.raises(ConfigError, match=r"there is none in bm25, plain; leave retriever= out"):
        evaluate(index_dir=["bm25", "plain"], retriever=FirstWord())


def test_the_commands_index_evaluate_fuse_and_compare(tmp_path, data, capfd):
    """The configuration files, the index directories and the jobs fit together only if nothing is faked."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(asdict(passage)) + "\n" for passage in PASSAGES))
    bm25, rank = tmp_path / "bm25", tmp_path / "rank"
    words = f"eval data={data} k=5 out={tmp_path}"
    for command in (
        f"index corpus={corpus} retriever=bm25 out={bm25}",
        f"index corpus={corpus} retriever=rank_bm25 out={rank}",
        f"{words}/a index_dir={bm25}",
        f"{words}/b index_dir=[{bm25},{rank}] fusion=weighted fusion.weights=[1,2]",
        f"eval compare=[{tmp_path}/a,{tmp_path}/b] out={tmp_path}/c",
    ):
        assert cli.main(command.split()) == 0, capfd.readouterr().err
    assert json.loads((tmp_path / "b" / "metrics.json").read_text())["hit@1"]["value"] == 0.75
    assert json.loads((tmp_path / "c" / "compare.json").read_text())["hit@1"]["p"] == 1
    assert cli.main([*words.split(), f"index_dir={tmp_path}/nowhere"]) == 2
    assert "no index" in capfd.readouterr().err
