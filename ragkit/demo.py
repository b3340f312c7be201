"""``ragkit demo``: from passages to scored answers on the built-in sample, on a CPU, without a download."""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ragkit.ask import answer_line, evidence_table
from ragkit.binding import build
from ragkit.config import compose
from ragkit.corpus import load_examples
from ragkit.errors import ConfigError
from ragkit.metrics import bootstrap_interval, exact_match, f1, has_answer, hit_at_k
from ragkit.pipeline import RetrieveThenRead, load
from ragkit.reader import open_reader
from ragkit.retriever.fusion import Fusion
from ragkit.sample import passages_path, questions_path
from ragkit.text.models import resolve
from ragkit.types import Example, Prediction, ScoredPassage

CUTS = (1, 5, 20)

Scores = dict[str, Float64[np.ndarray, " question"]]


@dataclass(frozen=True)
class DemoJob:
    """Index the sample by words and by meaning, train a reader, compare what is found and answered, show some answers.

    Everything is written below ``out``; the same command again uses what is there. ``model`` is the encoder of the
    dense index, and what the reader starts from; ``training`` are overrides of ``ragkit train experiment=extractive``.
    Test questions are answered from the ``n_passages`` best passages; ``n_answers`` of them are shown, half of them
    right where there are as many.
    """

    out: Path
    model: str
    training: list[str] = field(default_factory=list)
    n_passages: int = 3
    n_answers: int = 4
    seed: int = 0

    def run(self) -> None:
        """Print the commands that are run, one table of figures, a few answers, and the commands to go on with.

        Raises:
            MissingPackage: the encoder's package or FAISS is not installed; the message has the line to type.
            IndexMismatch, CheckpointError: ``out`` holds a demo with other settings.
        """
        if not 1 <= self.n_passages <= max(CUTS) or self.n_answers < 0:
            raise ConfigError(f"n_passages is {self.n_passages}, of 1 to {max(CUTS)}, and n_answers {self.n_answers}")
        started = time.perf_counter()
        resolve(self.model)  # before any work: a missing package is named at once
        console = Console(highlight=False)
        self._index(console)
        self._train(console)
        test, reader = load_examples(str(questions_path("test"))), open_reader(str(self.out / "reader"))
        _say(console, f"3. Answer {len(test)} test questions from the {self.n_passages} best passages of each search")
        words, meaning = load(self.out / "bm25"), load(self.out / "minilm")
        both = RetrieveThenRead(Fusion([words.retriever, meaning.retriever]), words.store)
        systems = {"BM25": words, "MiniLM": meaning, "fusion of both": both}
        scores, predictions = {}, {}
        for name, rag in systems.items():
            found = find(rag, test)
            predictions[name] = reader.answer([e.question for e in test], [hits[: self.n_passages] for hits in found])
            scores[name] = hit_scores(found, test) | answer_scores(predictions[name], test)
        console.print(score_table(scores, semantic_marks("test"), seed=self.seed))
        _say(console, "4. Some right and some wrong answers from MiniLM's passages, with their evidence")
        for row in some_of_both(scores["MiniLM"]["EM"] > 0, self.n_answers):
            show_answer(console, test[row], predictions["MiniLM"][row])
        console.print(next_steps(self.out), soft_wrap=True)
        seconds = time.perf_counter() - started
        console.print(f"\ndone in {seconds // 60:.0f} min {seconds % 60:.0f} s, peak memory {peak_memory():.2f} GB")

    def _index(self, console: Console) -> None:
        _say(console, "1. Index the passages of the sample by words (BM25) and by meaning (MiniLM)")
        corpus = f"corpus={passages_path()}"
        run_command(console, "index", [corpus, "retriever=bm25", f"out={_quoted(self.out / 'bm25')}"])
        dense = [corpus, "retriever=minilm", f"retriever.model={_quoted(self.model)}"]
        run_command(console, "index", [*dense, f"out={_quoted(self.out / 'minilm')}"])

    def _train(self, console: Console) -> None:
        _say(console, "2. Train a reader on the train questions and the passages MiniLM finds")
        files = [f"data.{split}={_quoted(questions_path(split))}" for split in ("train", "dev")]
        places = [f"index_dir={_quoted(self.out / 'minilm')}", f"out={_quoted(self.out / 'reader')}"]
        model = ["reader=minilm", f"reader.model={_quoted(self.model)}", f"policy.seed={self.seed}"]
        run_command(console, "train", ["experiment=extractive", *model, *files, *places, *self.training])


def run_command(console: Console, command: str, overrides: Sequence[str]) -> None:
    """Print and run a ragkit command, in this process."""
    console.print(Text(f"$ ragkit {command} {' '.join(overrides)}", style="dim"), soft_wrap=True)
    build(compose(command, overrides)).run()


def semantic_marks(split: str) -> Bool[np.ndarray, " question"]:
    """Which questions of a split share next to no word with their passage."""
    lines = questions_path(split).read_text(encoding="utf-8").splitlines()
    return np.array([json.loads(line)["semantic"] for line in lines], dtype=bool)


def find(rag: RetrieveThenRead, examples: Sequence[Example]) -> list[list[ScoredPassage]]:
    """The best passages of every question, as many as the largest of ``CUTS``."""
    return rag.passages(rag.retrieve([example.question for example in examples], k=max(CUTS)))


def some_of_both(is_right: Bool[np.ndarray, " question"], count: int) -> list[int]:
    """Up to ``count`` rows, spread evenly over the right answers and then over the wrong ones, half of each.

    >>> some_of_both(np.array([False, True, False, False, True]), 3)
    [1, 4, 0]
    """
    right, wrong = np.flatnonzero(is_right), np.flatnonzero(~is_right)
    n_right = min(len(right), (count + 1) // 2)
    shares = ((right, n_right), (wrong, min(len(wrong), count - n_right)))
    return [int(rows[len(rows) * step // n]) for rows, n in shares for step in range(n)]


def hit_scores(found: Sequence[Sequence[ScoredPassage]], examples: Sequence[Example]) -> Scores:
    """``hit@1`` and so on of every question."""
    bearing = np.zeros((len(examples), max(CUTS)), dtype=bool)
    for row, (example, hits) in enumerate(zip(examples, found, strict=True)):
        bearing[row, : len(hits)] = [has_answer(hit.passage.text, example.answers) for hit in hits]
    return {f"hit@{cut}": hit_at_k(bearing, cut) for cut in CUTS}


def answer_scores(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    """Exact match and F1 of every question."""
    pairs = [(found.text, example.answers) for found, example in zip(predictions, examples, strict=True)]
    return {name: np.array([metric(*pair) for pair in pairs]) for name, metric in (("EM", exact_match), ("F1", f1))}


def score_table(scores: Mapping[str, Scores], is_semantic: Bool[np.ndarray, " question"], *, seed: int) -> Table:
    """A line a retriever: means with 95 % bootstrap intervals, over all questions and over the two kinds of them."""
    table = Table(title="share of test questions, with its 95 % interval", title_justify="left")
    table.add_column("passages from", no_wrap=True)
    for name in next(iter(scores.values())):
        table.add_column(name, justify="right", no_wrap=True)
    kinds = {
        "all": np.ones_like(is_semantic),
        "by words": ~is_semantic,
        "by meaning": is_semantic,
    }
    for kind, chosen in kinds.items():
        table.add_section()
        table.add_row(Text(f"{kind}: {chosen.sum()}", style="bold"))
        for name, values in scores.items():
            table.add_row(f"  {name}", *(_cell(values[metric][chosen], seed=seed) for metric in values))
    table.caption = (
        "hit@k: an answer stands in the k best passages. EM, F1: the reader's answer against the gold ones.\n"
        "by meaning: questions that share next to no word with their passage."
    )
    table.caption_justify = "left"
    return table


def _cell(values: Float64[np.ndarray, " question"], *, seed: int) -> str:
    found = bootstrap_interval(values, generator=np.random.default_rng(seed))
    return f"{found.value:.3f}\n{found.low:.2f}-{found.high:.2f}"


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
