"""``ragkit train``: the experiments from their configuration, from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ragkit.binding import build
from ragkit.config import compose
from ragkit.corpus import write_examples
from ragkit.errors import CheckpointError, ConfigError
from ragkit.retriever import DualEncoder
from ragkit.training import main as command
from ragkit.training.loop import TrainResult
from ragkit.types import Passage


@pytest.fixture
def question_file(tiny, tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    write_examples(tiny.questions(24), path, format="dpr")
    return path


def _words(out: Path, model: Path, *more: str) -> list[str]:
    compute = ["policy.compute.device=cpu", "policy.compute.dtype=float32", "retriever.dtype=float32"]
    return [f"retriever={model}", f"out={out}", "policy.batch_size=8", "policy.steps=6", *compute, *more]


def _run(experiment: str, *words: str) -> None:
    build(compose("train", [f"experiment={experiment}", *words])).run()


def test_dpr_trains_evaluates_and_exports_what_loads_again(model_dir: Path, question_file: Path, tmp_path: Path):
    out = tmp_path / "run"
    files = [f"data.train={question_file}", f"data.dev={question_file}"]
    _run("dpr", *_words(out, model_dir, *files, "policy.save.eval_every=3"))
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["steps"] == 6
    assert 0 < metrics["dev_mrr"]["value"] <= 1
    assert metrics["dev_average_rank"]["value"] >= 1
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if "dev_mrr" in line] == [0, 3, 6]
    assert sorted(path.name for path in out.iterdir()) == ["checkpoints", "log.jsonl", "metrics.json", "retriever"]
    _run("dpr", *_words(out, model_dir, *files))  # a finished run: nothing more to train, the same export
    assert len((out / "log.jsonl").read_text().splitlines()) == len(lines)
    with pytest.raises(CheckpointError, match="learning_rate"):
        _run("dpr", *_words(out, model_dir, *files, "policy.optimizer.learning_rate=0.5"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_sentence_transformers_loads_the_trained_retriever(model_dir: Path, question_file: Path, tmp_path: Path, tiny):
    """Guards the export: that library's vectors must be ours to 1e-5, for a trained encoder too."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    _run("dpr", *_words(tmp_path / "run", model_dir, f"data.train={question_file}"))
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "run" / "retriever"), device="cpu")
    ours = DualEncoder.from_pretrained(str(tmp_path / "run" / "retriever"), device="cpu", dtype="float32")
    texts = [example.question for example in tiny.questions(5)]
    np.testing.assert_allclose(theirs.encode(texts), ours.encode_queries(texts), atol=1e-5)
    start = DualEncoder.from_pretrained(str(model_dir), device="cpu", dtype="float32")
    assert np.abs(start.encode_queries(texts) - ours.encode_queries(texts)).max() > 1e-4


def test_texts_come_from_the_index_where_examples_give_ids_alone(tiny, model_dir: Path, tmp_path: Path):
    from ragkit.corpus import write_store

    examples = tiny.questions(12)
    write_store([p for e in examples for p in (*e.positives, *e.hard_negatives)], tmp_path / "index" / "corpus")
    bare = [
        replace(
            example,
            positives=tuple(Passage(p.id, "") for p in example.positives),
            hard_negatives=tuple(Passage(p.id, "") for p in example.hard_negatives),
        )
        for example in examples
    ]
    write_examples(bare, tmp_path / "ids.jsonl", format="tevatron-v2")
    words = _words(tmp_path / "run", model_dir, f"data.train={tmp_path / 'ids.jsonl'}")
    _run("dpr", *words, f"index_dir={tmp_path / 'index'}")
    assert (tmp_path / "run" / "retriever").is_dir()


@pytest.mark.parametrize("queue", [0, 16])
def test_contriever_trains_from_a_corpus_file(tiny, model_dir: Path, tmp_path: Path, queue: int):
    corpus = tmp_path / "corpus.tsv"
    lines = [f"{number}\t{text}\ttitle" for number, text in enumerate(tiny.themed_texts(60))]
    corpus.write_text("id\ttext\ttitle\n" + "\n".join(lines) + "\n")
    out = tmp_path / "run"
    _run("contriever", *_words(out, model_dir, f"data.train={corpus}", f"task.options.queue={queue}"))
    assert json.loads((out / "metrics.json").read_text())["n"] == 54
    assert (out / "retriever").is_dir()


def test_two_processes_of_the_command_log_the_losses_of_one(tiny, toy, question_file, run_script, tmp_path: Path):
    """torchrun on gloo, GradCache on, an uneven batch of 7: the losses of one process to 1e-5."""
    model = tiny.write_model(tmp_path / "model", dropout=0.0)
    words = [f"data.train={question_file}", "policy.batch_size=7", "task.options.chunk=3"]
    two = ["experiment=dpr", *_words(tmp_path / "two", model, *words, "policy.compute.processes=2")]
    finished = run_script("command", "train", *two, processes=2)
    assert finished.returncode == 0, finished.stderr
    assert "training in 2 processes" in finished.stderr
    _run("dpr", *_words(tmp_path / "one", model, *words))
    assert toy.losses(tmp_path / "two") == pytest.approx(toy.losses(tmp_path / "one"), rel=1e-5)
    assert len(toy.losses(tmp_path / "two")) == 6


def test_interrupted_run_exits_with_the_number_of_its_signal(
    model_dir: Path, question_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(command, "train", lambda *_: TrainResult(3, 0, {}, 15))
    with pytest.raises(SystemExit) as caught:
        _run("dpr", *_words(tmp_path / "run", model_dir, f"data.train={question_file}"))
    assert caught.value.code == 143


def test_missing_data_and_the_wrong_kind_of_model_are_named(model_dir: Path, question_file: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"data\.train=FILE"):
        _run("dpr", *_words(tmp_path / "run", model_dir))
    with pytest.raises(ConfigError, match="trains a dual encoder, not BM25"):
        _run("dpr", "retriever=bm25", f"out={tmp_path / 'run'}", f"data.train={question_file}")
    job = build(compose("train", ["experiment=dpr", *_words(tmp_path / "run", model_dir)]))
    with pytest.raises(ConfigError, match="one model, the retriever or the reader; 0 are configured"):
        replace(job, retriever=None).run()
