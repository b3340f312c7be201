"""Runs the experiments of docs/results.md, each once, and writes the page from what they left on disk.

Every experiment is a `ragkit` command, printed before it runs and quoted in the page. One that has finished is not run
again; one that was cut off goes on where it stopped. A whole run takes hours on two cores: `--only` and `--page` help.

    python scripts/results.py --data DATA --runs runs/results
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from results_steps import (
    GENERATED,
    PAIRS,
    READINGS,
    RETRIEVAL_SETS,
    SYSTEMS,
    Step,
    filled,
    generated_name,
    steps,
)

FIGURES = ("hit@1", "hit@5", "hit@20", "hit@100")
BEGIN, END = "<!-- answers: begin -->", "<!-- answers: end -->"  # around the part of scripts/results_answers.py
GOLD_FIGURES = ("hit_gold@1", "hit_gold@5", "hit_gold@20", "hit_gold@100")


def words_file(step: Step, runs: Path) -> Path:
    """The command that a finished step ran, so that the page cannot show another."""
    return runs / "words" / f"{step.name.replace('/', '-')}.json"


def is_done(step: Step, runs: Path) -> bool:
    """Whether the step's result is there; SystemExit where another command made it."""
    if not (runs / step.leaves).exists():
        return False
    file = words_file(step, runs)
    if not file.exists() or json.loads(file.read_text()) != list(step.words):
        sys.exit(
            f"{runs / step.leaves} was made by another command than {step.name} has now; remove it to run it again"
        )
    return True


def run(step: Step, *, data: Path, runs: Path) -> None:
    log = runs / "logs" / f"{step.name.replace('/', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    words = ["ragkit", *filled(step, data=data, runs=runs)]
    print("$", " ".join(words), flush=True)
    started = time.monotonic()
    with log.open("a") as output:
        command = [str(Path(sys.executable).parent / "ragkit"), *words[1:]]
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    seconds = time.monotonic() - started
    if done.returncode != 0:
        sys.exit(f"{step.name}: exit {done.returncode} after {seconds:.0f} s; see {log}\n{log.read_text()[-2000:]}")
    times_file = runs / "seconds.json"
    times = json.loads(times_file.read_text()) if times_file.exists() else {}
    times[step.name] = round(times.get(step.name, 0.0) + seconds, 1)
    times_file.write_text(json.dumps(times, indent=1))
    (runs / "words").mkdir(exist_ok=True)
    words_file(step, runs).write_text(json.dumps(step.words))
    print(f"  {seconds:.0f} s", flush=True)


def main() -> None:
    run_steps(__doc__, steps(), write=write_page)


def run_steps(about: str, found: Sequence[Step], *, write: Callable[[Path, Path], None]) -> None:
    """Read the command line, run what is not done, and ``write(runs, page)`` unless only some steps were asked for."""
    parser = argparse.ArgumentParser(description=about.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with corpus.tsv and nq.train.jsonl, ...")
    parser.add_argument("--runs", type=Path, default=Path("runs/results"), help="where indexes and runs go")
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"), help="the page")
    parser.add_argument("--only", nargs="*", help="run these steps only (names as printed by --list)")
    parser.add_argument("--list", action="store_true", help="print the steps and whether they are done")
    parser.add_argument("--page", action="store_true", help="write the page from what is there, run nothing")
    options = parser.parse_args()
    for step in found:
        done = is_done(step, options.runs)
        if options.list:
            print("done" if done else "    ", step.name)
        elif not done and not options.page and (not options.only or step.name in options.only):
            run(step, data=options.data, runs=options.runs)
    if not options.list and not options.only:
        write(options.runs, options.out)
        print(f"wrote {options.out}")


def write_page(runs: Path, out: Path) -> None:
    """The whole page, with the part between the marks as it was."""
    before = out.read_text(encoding="utf-8") if out.exists() else ""
    text = page(runs)
    out.write_text(replaced(text, before.split(BEGIN)[1].split(END)[0].strip()) if BEGIN in before else text, "utf-8")


def replaced(page: str, text: str) -> str:
    """The page with the text between the marks; without marks they are put before its first second-level heading."""
    if BEGIN not in page:
        first = page.index("\n## ") + 1
        page = f"{page[:first]}{BEGIN}\n{END}\n\n{page[first:]}"
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def machine() -> str:
    names = ("torch", "transformers", "faiss-cpu", "bm25s")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{os.cpu_count()} cores ({platform.machine()}), no GPU, Python {platform.python_version()}, {versions}"


def read(runs: Path, name: str) -> dict[str, dict[str, float]] | None:
    file = runs / name
    return json.loads(file.read_text()) if file.exists() else None


def cell(metrics: dict[str, dict[str, float]], key: str) -> str:
    figure = metrics.get(key)
    return f"{figure['value']:.3f} ({figure['low']:.3f}–{figure['high']:.3f})" if figure else "–"


def table(header: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(header) + " |", "|---" * len(header) + "|", *("| " + " | ".join(r) + " |" for r in rows)]


def dev_part(runs: Path) -> list[str]:
    rows = []
    for system, (name, _) in SYSTEMS.items():
        found = [read(runs, f"eval/{data}.dev-{system}/metrics.json") for data in RETRIEVAL_SETS]
        rows.append([name, *(cell(metrics, key) for metrics in found if metrics for key in ("hit@1", "hit@20"))])
    header = ("retriever", *(f"{data}.dev {key}" for data in RETRIEVAL_SETS for key in ("hit@1", "hit@20")))
    return ["### Development sets", "", *table(header, rows), ""]


def retrieval_part(runs: Path, data: str) -> list[str]:
    lines = [f"### {data}.test", ""]
    found = {system: read(runs, f"eval/{data}.test-{system}/metrics.json") for system in SYSTEMS}
    for figures in (FIGURES, GOLD_FIGURES):
        rows = [
            [SYSTEMS[system][0], *(cell(metrics, key) for key in figures)]
            for system, metrics in found.items()
            if metrics
        ]
        lines += [*table(("retriever", *figures), rows), ""]
    rows = []
    for a, b in PAIRS:
        compared = read(runs, f"compare/{data}-{a}-{b}/compare.json")
        for key in (*FIGURES[:3], "recall@1", "mrr@100") if compared else ():
            pair = compared.get(key)
            if pair:
                span = f"{pair['difference']:+.3f} ({pair['low']:+.3f} to {pair['high']:+.3f})"
                rows.append(
                    [
                        f"{SYSTEMS[b][0]} − {SYSTEMS[a][0]}",
                        key,
                        span,
                        "< 0.001" if pair["p"] < 0.001 else f"{pair['p']:.3f}",
                    ]
                )
    return [*lines, *table(("difference", "metric", "value", "p"), rows), ""] if rows else lines


def generated_part(runs: Path) -> list[str]:
    """What FiD writes, beside what the extractive reader cuts from the same passages."""
    rows = []
    extractive = [("reader", "extractive", name, n) for name, n in READINGS]
    for reader, what, data, n in (*GENERATED, *extractive):
        metrics = read(runs, f"{generated_name(reader, data, n)}/metrics.json")
        if metrics:
            figures = (cell(metrics, key) for key in ("exact_match", "f1"))
            rows.append([what, data.replace("/", "."), str(n or "none"), str(metrics["n"]), *figures])
    header = ("reader", "questions", "passages read", "n", "EM", "F1")
    return ["## FiD from MiniLM", "", *table(header, rows), ""] if rows else []


def page(runs: Path) -> str:
    times = read(runs, "seconds.json") or {}
    lines = [
        "# Results",
        "",
        "Made by `python scripts/results.py --data DATA --runs runs/results`; every figure comes from a `metrics.json`",
        f"that one of the commands at the end wrote. Machine: {machine()}.",
        "",
        "The corpus is 69,606 passages, far easier than the 21 million of Wikipedia: these figures do not compare with",
        "the papers'. Intervals are 95 % bootstrap intervals over questions; p is that of a paired permutation test on",
        "the same questions. hit@k is DPR's answer-in-passage match, recall@k is against the gold passage ids.",
        "",
        "## Retrieval",
        "",
    ]
    for name in RETRIEVAL_SETS:
        lines += retrieval_part(runs, name)
    lines += dev_part(runs)
    trained = read(runs, "dpr/metrics.json")
    if trained:
        lines += [
            f"The trained MiniLM's weights are those after step {trained['exported_step']} of {trained['steps']}.",
            "",
        ]
    lines += ["## Extractive reader", ""]
    rows = []
    for name, n in READINGS:
        metrics = read(runs, f"eval/{name}-reader{n}/metrics.json")
        if metrics:
            rows.append(
                [name, str(n), str(metrics["n"]), *(cell(metrics, key) for key in ("exact_match", "f1", "hit@5"))]
            )
    lines += [*table(("questions", "passages read", "n", "EM", "F1", "hit@5"), rows), ""]
    lines += generated_part(runs)
    notes = Path(__file__).with_name("results_notes.md")
    if notes.exists():
        lines += [notes.read_text(encoding="utf-8").rstrip(), ""]
    lines += ["## Commands and wall time", "", "| seconds | command |", "|---|---|"]
    for step in steps():
        command = " ".join(filled(step, data=Path("DATA"), runs=Path("runs/results")))
        seconds = f"{times[step.name]:,.0f}" if step.name in times else "–"
        lines.append(f"| {seconds} | `ragkit {command}` |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
