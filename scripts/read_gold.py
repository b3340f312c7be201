"""A reader's exact match and F1 with each question's gold passage in hand: what it reads, whatever is retrieved.

    python scripts/read_gold.py smollm2 --data DATA/nq.test.jsonl --out FILE.jsonl --n 96

READER is a configuration of conf/reader/, a folder, or a model reference. Answers are added to OUT as they are written,
and a run that was cut off goes on after them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
import transformers

from ragkit.binding import build
from ragkit.config import compose
from ragkit.corpus import load_examples
from ragkit.metrics import bootstrap_interval, exact_match, f1
from ragkit.reader.open import open_reader
from ragkit.reader.protocol import Reader
from ragkit.types import Example, ScoredPassage

_BATCH = 8


def find_reader(name: str, overrides: list[str]) -> Reader:
    if Path(name).exists() or "/" in name:
        return open_reader(name)
    reader: Reader = build(compose("eval", [f"reader={name}", *overrides])["reader"])
    return reader


def answer(reader: Reader, examples: list[Example], out: Path, *, n_passages: int) -> list[str]:
    done = [json.loads(line)["text"] for line in out.read_text().splitlines()] if out.exists() else []
    with out.open("a") as lines:
        for start in range(len(done), len(examples), _BATCH):
            part = examples[start : start + _BATCH]
            gold = [[ScoredPassage(passage, 0.0) for passage in one.positives[:n_passages]] for one in part]
            for one, found in zip(part, reader.answer([one.question for one in part], gold), strict=True):
                line = {"question": one.question, "text": found.text, "score": found.score}
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
                done.append(found.text)
            lines.flush()
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader")
    parser.add_argument("overrides", nargs="*", help="of the reader's configuration: reader.options.context=parallel")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=None, help="the first N questions (default: all)")
    parser.add_argument("--n-passages", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    examples = [one for one in load_examples(args.data) if one.positives][: args.n]
    started = time.perf_counter()
    texts = answer(find_reader(args.reader, args.overrides), examples, args.out, n_passages=args.n_passages)
    figures: dict[str, object] = {"reader": args.reader, "data": args.data, "n_passages": args.n_passages}
    for name, metric in (("exact_match", exact_match), ("f1", f1)):
        values = np.array([metric(text, one.answers) for text, one in zip(texts, examples, strict=True)])
        found = bootstrap_interval(values, generator=np.random.default_rng(0))
        figures[name] = {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
        print(f"{name} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] n={found.n}")
    print(
        f"{time.perf_counter() - started:.0f} s, {torch.get_num_threads()} threads of {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    )
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
