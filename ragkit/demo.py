"""``ragkit demo``: from passages to scored answers on the built-in sample, on a CPU, without a download."""

from __future__ import annotations

import ctypes
import gc
import re
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ragkit.ask import answer_line, evidence_table
from ragkit.binding import build
from ragkit.config import compose
from ragkit.corpus import load_examples
from ragkit.demo_figures import (
    CUTS,
    Scores,
    answer_scores,
    find,
    gains,
    hit_scores,
    score_table,
    semantic_marks,
    some_of_both,
)
from ragkit.errors import ConfigError
from ragkit.metrics import exact_match
from ragkit.pipeline import RetrieveThenRead, load
from ragkit.reader import open_reader
from ragkit.retriever.fusion import Fusion
from ragkit.sample import held_out_lines, passages_path, questions_path
from ragkit.text.models import resolve
from ragkit.types import Example, Prediction

_WHAT_IS_SEEN = (
    "The retriever learns from questions and answers, and from what the reader thinks of the passages that it finds; "
    "it is shown no gold passage. It is measured on the questions held out: they ask about the same passages, and "
    "neither it nor the reader has seen them."
)


@dataclass(frozen=True)
class DemoJob:
    """Index the sample, train a reader, let it teach a weak retriever, compare what is found and answered.

    Everything is written below ``out``; the same command again uses what is there. ``model`` is the encoder of the
    dense index, and what the reader starts from; the weak retriever is its first ``layers`` layers. ``training`` are
    overrides of ``ragkit train experiment=extractive``, ``learning`` of ``ragkit train experiment=atlas``.
    Test questions are answered from the ``n_passages`` best passages; ``n_answers`` of them are shown, half of them
    right where there are as many.
    """

    out: Path
    model: str
    training: list[str] = field(default_factory=list)
    learning: list[str] = field(default_factory=list)
    layers: int = 2
    n_passages: int = 3
    n_answers: int = 4
    seed: int = 0

    def run(self) -> None:
        """Print the commands that are run, two tables of figures, a few answers, a summary, and how to go on.

        Raises:
            MissingPackage: the encoder's package or FAISS is not installed; the message has the line to type.
            ConfigError: a number makes no sense, or ``model`` has fewer than ``layers`` layers.
            IndexMismatch, CheckpointError: ``out`` holds a demo with other settings.
        """
        if not 1 <= self.n_passages <= max(CUTS) or self.n_answers < 0:
            raise ConfigError(f"n_passages is {self.n_passages}, of 1 to {max(CUTS)}, and n_answers {self.n_answers}")
        started = time.perf_counter()
        resolve(self.model)  # before any work: a missing package is named at once
        for overrides in (self._reader_training(), self._learning()):
            compose("train", overrides)  # before any work: so is a misspelt key
        console = Console(highlight=False)
        self._index(console)
        n_learned, n_held = self._divide_questions()
        _say(
            console, f"2. Train a reader on {n_learned} questions and their gold passages; {n_held} others are held out"
        )
        run_command(console, "train", self._reader_training())
        _say(console, f"3. Let that reader teach a weak retriever, the first {self.layers} layers of MiniLM")
        console.print(_WHAT_IS_SEEN)
        run_command(console, "train", self._learning())
        summary = self._show_learned(console)
        self._answer(console)
        console.print(Text(f"\n{summary}\n", style="bold"), soft_wrap=True)
        console.print(next_steps(self.out), soft_wrap=True)
        seconds = time.perf_counter() - started
        console.print(f"\ndone in {seconds // 60:.0f} min {seconds % 60:.0f} s, peak memory {peak_memory():.2f} GB")

    def _index(self, console: Console) -> None:
        _say(console, "1. Index the sample by words (BM25), by meaning (MiniLM), and by MiniLM's first layers alone")
        indexes = {"bm25": ["retriever=bm25"], "minilm": self._encoder(), "weak": self._weak()}
        for name, retriever in indexes.items():
            places = [f"corpus={_quoted(passages_path())}", f"out={_quoted(self.out / name)}"]
            run_command(console, "index", [*retriever, *places])

    def _divide_questions(self) -> tuple[int, int]:
        """Write the train questions in two files, to learn from and held out; how many each has."""
        lines = questions_path("train").read_text(encoding="utf-8").splitlines()
        parts = held_out_lines(lines)
        for path, part in zip((self._learned_path, self._held_path), parts, strict=True):
            path.write_text("".join(f"{line}\n" for line in part), encoding="utf-8")
        return len(parts[0]), len(parts[1])

    @property
    def _learned_path(self) -> Path:
        return self.out / "learned_questions.jsonl"

    @property
    def _held_path(self) -> Path:
        return self.out / "held_out_questions.jsonl"

    def _encoder(self) -> list[str]:
        return ["retriever=minilm", f"retriever.model={_quoted(self.model)}"]

    def _weak(self) -> list[str]:
        return [*self._encoder(), f"retriever.layers={self.layers}"]

    def _reader_training(self) -> list[str]:
        model = ["reader=minilm", f"reader.model={_quoted(self.model)}"]
        places = [f"index_dir={_quoted(self.out / 'minilm')}", f"out={_quoted(self.out / 'reader')}"]
        return ["experiment=extractive", *model, *places, *self._data(), *self.training]

    def _learning(self) -> list[str]:
        models = [*self._weak(), f"reader={_quoted(self.out / 'reader')}"]
        places = [f"index_dir={_quoted(self.out / 'weak')}", f"out={_quoted(self.out / 'learned')}"]
        return ["experiment=atlas", "loss=emdr2", *models, *places, *self._data(), *self.learning]

    def _data(self) -> list[str]:
        files = (f"data.train={_quoted(self._learned_path)}", f"data.dev={_quoted(questions_path('dev'))}")
        return [*files, f"policy.seed={self.seed}"]

    def _show_learned(self, console: Console) -> str:
        """Print what the weak retriever finds before and after for the questions held out; the same in a few lines."""
        held = load_examples(str(self._held_path))
        before, after = "weak retriever", "weak, taught"
        indexes = {before: "weak", after: "learned/index", "all of MiniLM": "minilm", "BM25": "bm25"}
        hits = {name: hit_scores(find(load(self.out / place), held), held) for name, place in indexes.items()}
        console.print(score_table(hits, semantic_marks(self._held_path), what="held-out", seed=self.seed))
        return (
            f"What a weak retriever ({self.layers} layers of MiniLM) learned from answers alone, "
            f"on {len(held)} questions not seen before:\n"
            f"{gains(hits[before], hits[after], seed=self.seed)}"
        )

    def _answer(self, console: Console) -> None:
        test = load_examples(str(questions_path("test")))
        _say(console, f"4. Answer {len(test)} test questions from the {self.n_passages} best passages of each search")
        reader = open_reader(str(self.out / "reader"))
        words, meaning = load(self.out / "bm25"), load(self.out / "minilm")
        both = RetrieveThenRead(Fusion([words.retriever, meaning.retriever]), words.store)
        scores: dict[str, Scores] = {}
        predictions: dict[str, list[Prediction]] = {}
        for name, rag in {"BM25": words, "MiniLM": meaning, "fusion of both": both}.items():
            found = find(rag, test)
            predictions[name] = reader.answer([e.question for e in test], [hits[: self.n_passages] for hits in found])
            scores[name] = hit_scores(found, test) | answer_scores(predictions[name], test)
        console.print(score_table(scores, semantic_marks(questions_path("test")), what="test", seed=self.seed))
        _say(console, "5. Some right and some wrong answers from MiniLM's passages, with their evidence")
        for row in some_of_both(scores["MiniLM"]["EM"] > 0, self.n_answers):
            show_answer(console, test[row], predictions["MiniLM"][row])


def run_command(console: Console, command: str, overrides: Sequence[str]) -> None:
    """Print and run a ragkit command, in this process."""
    console.print(Text(f"$ ragkit {command} {' '.join(overrides)}", style="dim"), soft_wrap=True)
    build(compose(command, overrides)).run()
    _give_back_memory()


def _give_back_memory() -> None:
    """Free what the last command used: glibc keeps it, broken up, and the next command's would come on top."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)


def show_answer(console: Console, example: Example, prediction: Prediction) -> None:
    """A question, the reader's answer, the gold answers, and the first evidence."""
    verdict = "right" if exact_match(prediction.text, example.answers) else "wrong"
    console.print(Text(example.question, style="bold"))
    console.print(answer_line(prediction))
    console.print(Text(f"{verdict}; wanted: {' / '.join(example.answers)}"))
    console.print(evidence_table(prediction, shown=1), "")


def next_steps(out: Path) -> Text:
    """The commands that go on from here."""
    test, train, dev = (_quoted(questions_path(split)) for split in ("test", "train", "dev"))
    both, reader = f"index_dir=[{_quoted(out / 'bm25')},{_quoted(out / 'minilm')}]", f"reader={out / 'reader'}"
    lines = (
        f'ragkit ask "which river carved the grand canyon" index_dir={_quoted(out / "minilm")} {reader}',
        f"ragkit eval data={test} {both} {reader} out={_quoted(out / 'eval')}",
        f"ragkit train experiment=dpr data.train={train} data.dev={dev} out={_quoted(out / 'dpr')}",
        "ragkit index corpus=YOUR_PASSAGES.tsv retriever=minilm out=runs/mine",
    )
    return Text("\n".join(("Go on with:", *(f"  {line}" for line in lines))))


def peak_memory() -> float:
    """The most memory that this process has held, in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9  # macOS counts bytes, Linux KiB


def _quoted(value: Path | str) -> str:
    """The value as an override can hold it: in quotes if it has signs that the grammar of overrides uses."""
    text = str(value)
    return text if re.fullmatch(r"[\w./:+-]+", text) else "'" + text.replace("'", "\\'") + "'"


def _say(console: Console, text: str) -> None:
    console.print(Text(f"\n{text}", style="bold cyan"))
