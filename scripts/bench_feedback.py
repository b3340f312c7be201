"""What each feedback signal costs, as a multiple of the reader's own training step, at 5, 10 and 20 passages.

A T5 of random weights (256 wide, 4 + 4 layers) as FiD, passages of about 100 words of the built-in sample, answers of
two tokens or so; one run, the contestants timed in turn, the median of several rounds. ``lool_reencoded`` is the
obvious form of LOOL, which encodes every set of k - 1 passages anew; ``lool_vs_reencoded`` divides the two. ``twice``
is LDist's or EMDR2's feedback and then the step, ``once`` the two from one encoding, ``once_vs_twice`` their quotient.

    python scripts/bench_feedback.py --quick --json bench_feedback.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import answers_models
import torch
from rich.console import Console
from rich.table import Table
from transformers import T5Config, T5ForConditionalGeneration

from ragkit.corpus import load_examples, read_corpus
from ragkit.feedback import AnsweredQuestions, attention, leave_one_out, likelihood
from ragkit.reader.fid import FusionReader
from ragkit.reader.prompts import FusionOptions
from ragkit.reader.seq2seq import Seq2SeqWeights
from ragkit.sample import passages_path, questions_path
from ragkit.training.sharing import encode_for_both

SIGNALS = {"emdr2, ldist": likelihood, "adist": attention, "lool": leave_one_out}


def main(arguments: Sequence[str] | None = None) -> int:
    """Time everything at every number of passages."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    reader, asked = _setting(questions=options.questions, k=max(options.passages))
    found = {str(k): _race(reader, _first(asked, k), rounds=options.rounds) for k in options.passages}
    figures = {
        "multiples": {k: {name: seconds / line["step"] for name, seconds in line.items()} for k, line in found.items()},
        "lool_vs_reencoded": {k: line["lool"] / line["lool_reencoded"] for k, line in found.items()},
        "once_vs_twice": {k: line["once"] / line["twice"] for k, line in found.items()},
        "step_seconds": {k: line["step"] for k, line in found.items()},
        "questions": options.questions,
        "rounds": options.rounds,
    }
    _report(figures, options)
    if options.json:
        content = {**figures, "seconds": found, "machine": _machine(options.threads)}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one question, two rounds, 5 and 10 passages")
    parser.add_argument("--passages", type=int, nargs="+", help="numbers of passages (default 5 10 20)")
    parser.add_argument("--questions", type=int, help="questions at once (default 4)")
    parser.add_argument("--rounds", type=int, help="how often each is timed (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    found = parser.parse_args(arguments)
    found.passages = found.passages or ([5, 10] if found.quick else [5, 10, 20])
    found.questions = found.questions or (1 if found.quick else 4)
    found.rounds = found.rounds or (2 if found.quick else 5)
    return found


def _setting(*, questions: int, k: int) -> tuple[FusionReader, AnsweredQuestions]:
    """A reader of random weights, and questions of the sample with k of its passages each."""
    passages = list(read_corpus(passages_path()))
    examples = load_examples(str(questions_path("train")))[:questions]
    texts = [f"{p.title} {p.text}" for p in passages] + [f"{e.question} {e.answers[0]}" for e in examples]
    words = sorted({word for text in texts for word in text.split()})
    tokenizer = answers_models.tokenizer_of(words, end=True)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=256,
        d_kv=64,
        d_ff=1024,
        num_heads=4,
        num_layers=4,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
        dropout_rate=0.0,
    )
    inputs = FusionOptions(question="{text}", passage="{title} {text}", max_length=200)
    reader = FusionReader(
        Seq2SeqWeights(T5ForConditionalGeneration(config), tokenizer, inputs), device="cpu", dtype="float32"
    )
    lines = [[passages[(row * k + at) % len(passages)] for at in range(k)] for row in range(questions)]
    return reader, AnsweredQuestions([e.question for e in examples], lines, [e.answers[0] for e in examples])


def _first(asked: AnsweredQuestions, k: int) -> AnsweredQuestions:
    return AnsweredQuestions(asked.questions, [line[:k] for line in asked.passages], asked.answers)


def _race(reader: FusionReader, asked: AnsweredQuestions, *, rounds: int) -> dict[str, float]:
    """Median seconds of each contestant, timed one after the other in every round."""
    contestants: dict[str, Callable[[], object]] = {"step": lambda: _step(reader, asked)}
    contestants |= {name: _signalled(reader, asked, signal) for name, signal in SIGNALS.items()}
    contestants["lool_reencoded"] = lambda: _reencoded(reader, asked)
    contestants |= {"twice": lambda: _twice(reader, asked), "once": lambda: _once(reader, asked)}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return {name: median(values) for name, values in times.items()}


def _signalled(reader: FusionReader, asked: AnsweredQuestions, signal: Any) -> Callable[[], object]:
    return lambda: signal(reader, asked)


def _step(reader: FusionReader, asked: AnsweredQuestions) -> None:
    """The reader's plain training step, without the optimizer's update."""
    reader.train()
    reader.zero_grad(set_to_none=True)
    reader.answer_nll(asked.questions, asked.passages, [str(answer) for answer in asked.answers]).backward()


def _twice(reader: FusionReader, asked: AnsweredQuestions) -> None:
    likelihood(reader, asked)
    _step(reader, asked)


def _once(reader: FusionReader, asked: AnsweredQuestions) -> None:
    """The same from one encoding, as training does it for a reader without dropout."""
    reader.train()
    reader.zero_grad(set_to_none=True)
    own, shared = encode_for_both(reader, asked, read=[range(len(line)) for line in asked.passages])
    reader.nll(own, [str(answer) for answer in asked.answers]).backward()
    likelihood(reader, shared)


def _reencoded(reader: FusionReader, asked: AnsweredQuestions) -> list[torch.Tensor]:
    """LOOL's feedback by reading every set of all passages but one from its text."""
    answers = [str(answer) for answer in asked.answers]
    sets = range(len(asked.passages[0]))
    return [
        reader.log_likelihood(asked.questions, [[*line[:at], *line[at + 1 :]] for line in asked.passages], answers).sums
        for at in sets
    ]


def _report(figures: dict[str, Any], options: argparse.Namespace) -> None:
    table = Table(title=f"seconds / the reader's training step; {_machine(options.threads)}")
    table.add_column("signal")
    for k in figures["multiples"]:
        table.add_column(f"k = {k}", justify="right")
    for name in ("emdr2, ldist", "adist", "lool", "lool_reencoded", "twice", "once"):
        table.add_row(name, *(f"{line[name]:.2f}" for line in figures["multiples"].values()))
    Console(width=120).print(table)
    print(
        "LOOL from one encoding / from re-encoding:", {k: round(v, 2) for k, v in figures["lool_vs_reencoded"].items()}
    )
    print("feedback and step, encoded once / twice:", {k: round(v, 2) for k, v in figures["once_vs_twice"].items()})


def _machine(threads: int) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "ragkit"))
    return f"{platform.machine()}, {os.cpu_count()} CPUs, {threads} torch threads; {packages}"


if __name__ == "__main__":
    sys.exit(main())
