"""Runs the experiments in which retrievers learn from answers alone, and writes their part of docs/results.md.

Every experiment is a `ragkit` command (results_answers_steps.py). One that has finished is not run again; one that was
cut off goes on where it stopped. Before: scripts/first_layers.py for runs/minilm3, and the steps `minilm`, `reader`,
`fid-squadsent` and `fid` of scripts/results.py. The part of the page between two marks is replaced; the rest is that of
scripts/results.py.

    python scripts/results_answers.py --data DATA --runs runs/results
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from results import cell, machine, read, replaced, run_steps, table
from results_answers_steps import LEARNERS, SETS, STARTS, root, steps
from results_steps import filled

from ragkit.eval.compare import Comparison, compare_runs

FIGURES = ("hit@1", "hit@5", "hit@20", "hit@100", "hit_gold@1", "hit_gold@20")
TESTED = ("hit@1", "hit@5", "hit@20")
PICTURE = "learned-from-answers.svg"
PICTURED = {  # with their colours: grey before and for the control, orange for what reads gold passages
    "minilm3": "#9a9a9a",
    "query-shuffled": "#d0d0d0",
    "query-emdr2": "#9ecae1",
    "atlas-emdr2": "#4292c6",
    "atlas-emdr2-second": "#08519c",
    "minilm3-dpr-1e4": "#e6842a",
}
GROUPS = (  # title, untrained retriever, questions of the training
    ("From MiniLM's first three layers, on nq.train", "minilm3", "nq"),
    ("From MiniLM itself, on nq.train", "minilm", "nq"),
    ("From MiniLM's first three layers, on squad.train", "minilm3", "squad"),
    ("From MiniLM itself, on squad.train", "minilm", "squad"),
)
INTRODUCTION = """## Learned from answers alone

A retriever that knows next to nothing about questions (MiniLM's lowest three layers, mean-pooled) learns from the
questions and answers of nq.train or squad.train: a frozen reader says what it thinks of the passages that the
retriever's own index finds, and no gold passage of a question is read by the retriever's training. Beside it the same
start trained by DPR on gold passages and BM25's negatives, and the control, in which every question has the answers of
another; and the same from the whole of MiniLM, which knows these questions nearly as well as can be. The readers (the
extractive one, for ADist a FiD reader) did see gold passages: those of nq.train, squad.train, triviaqa.train and
nqdistant.train, as below."""


def main() -> None:
    run_steps(__doc__, steps(), write=write_part)


def write_part(runs: Path, out: Path) -> None:
    """The part of the page between the marks, and its picture."""
    plot(runs, out.with_name(PICTURE))
    out.write_text(replaced(out.read_text(encoding="utf-8"), part(runs)), encoding="utf-8")


def part(runs: Path) -> str:
    """The tables of every group and question set, the tests, the notes, the times and the commands."""
    lines = [INTRODUCTION, "", f"![hit@k on nq.test before and after]({PICTURE})", ""]
    notes = Path(__file__).with_name("results_answers_notes.md")
    if notes.exists():
        lines += [notes.read_text(encoding="utf-8").rstrip(), ""]
    for title, start, questions in GROUPS:
        names = [name for name in members(start, questions) if (runs / name / "metrics.json").exists()]
        lines += [f"### {title}", ""] if names else []
        for data in SETS[questions] if names else ():
            lines += [f"**{data}**", "", *figures(runs, data, [start, *names]), *tests(runs, data, names)]
    return "\n".join([*lines, *subset(runs), *times(runs), *commands(runs)])


def subset(runs: Path) -> list[str]:
    """What scripts/results_subset.py found in a part of the corpus."""
    found: Any = read(runs, "subset.json")
    if not found:
        return []
    title = f"### The same indexes, {found['passages']:,} of their passages ({found['questions']})"
    rows = [[described(name), *(cell(figures, key) for key in TESTED)] for name, figures in found["figures"].items()]
    return [title, "", *table(("retriever", *TESTED), rows), ""]


def members(start: str, questions: str) -> list[str]:
    """The learners that go back to an untrained retriever and learned from these questions."""
    return [name for name, learner in LEARNERS.items() if root(name) == start and learner.questions == questions]


def figures(runs: Path, data: str, names: list[str]) -> list[str]:
    rows = []
    for name in names:
        metrics = read(runs, f"eval/{data}-{name}/metrics.json")
        if metrics:
            rows.append([described(name), *(cell(metrics, key) for key in FIGURES)])
    return [*table(("retriever", *FIGURES), rows), ""] if rows else []


def described(name: str) -> str:
    return STARTS[name] if name in STARTS else LEARNERS[name].what


def tests(runs: Path, data: str, names: list[str]) -> list[str]:
    """On test sets: each learner against its start, and those that learned from answers against gold passages."""
    rows = []
    for name in names if data.endswith(".test") else ():
        for rival in (LEARNERS[name].start, *rivals(name, names)):
            found = compared(runs, data, name, rival)
            if found:
                what = f"{described(name)} − {described(rival)}"
                rows.append([what, *(difference(found[key]) for key in TESTED)])
    return [*table(("difference", *TESTED), rows), ""] if rows else []


def rivals(name: str, names: list[str]) -> list[str]:
    """The supervised runs of the same group beside a learner: those at its learning rate, else all."""
    if LEARNERS[name].is_supervised:
        return []
    supervised = [other for other in names if LEARNERS[other].is_supervised]
    return [other for other in supervised if LEARNERS[other].rate == LEARNERS[name].rate] or supervised


def compared(runs: Path, data: str, name: str, rival: str) -> dict[str, Comparison]:
    folders = [runs / f"eval/{data}-{one}" for one in (name, rival)]
    return compare_runs(*folders, seed=0) if all((folder / "metrics.json").exists() for folder in folders) else {}


def difference(found: Comparison) -> str:
    p = "< 0.001" if found.p < 0.001 else f"= {found.p:.3f}"
    return f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f}), p {p}"


def times(runs: Path) -> list[str]:
    """What the updates, the searches and the refreshes of each run took."""
    rows = [
        [f"{learner.what}; {described(learner.start)}, {learner.questions}", *spent(runs / name)]
        for name, learner in LEARNERS.items()
        if (runs / name / "metrics.json").exists()
    ]
    header = ("run", "updates", "seconds an update", "refreshes", "seconds each", "refresh's share of the run")
    return ["### Time", "", *table(header, rows), ""]


def spent(folder: Path) -> list[str]:
    lines: list[dict[str, Any]] = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    seconds = [line["seconds"] for line in lines if "seconds" in line]
    made = [line["refresh_seconds"] for line in lines if line.get("refresh") == "switched"]
    last = json.loads((folder / "metrics.json").read_text())
    training = sum(seconds) / len(seconds) * last["steps"]
    share = f"{sum(made) / (sum(made) + training):.2f}" if made else "–"
    mean = f"{sum(made) / len(made):,.0f}" if made else "–"
    return [str(last["steps"]), f"{sum(seconds) / len(seconds):.1f}", str(len(made)), mean, share]


def commands(runs: Path) -> list[str]:
    seconds = read(runs, "seconds.json") or {}
    lines = ["### Commands and wall time", "", f"Machine: {machine()}.", "", "| seconds | command |", "|---|---|"]
    for step in steps():
        if (runs / step.leaves).exists():
            command = " ".join(filled(step, data=Path("DATA"), runs=Path("runs/results")))
            taken = f"{seconds[step.name]:,.0f}" if step.name in seconds else "–"
            lines.append(f"| {taken} | `ragkit {command}` |")
    return lines


def plot(runs: Path, path: Path) -> None:
    """hit@1, hit@5 and hit@20 on nq.test of the start and of some learners, with 95 % intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    found = [(name, read(runs, f"eval/nq.test-{name}/metrics.json")) for name in PICTURED]
    found = [(name, metrics) for name, metrics in found if metrics]
    figure, axes = pyplot.subplots(figsize=(8.4, 3.9))
    width = 0.8 / len(found)
    for place, (name, metrics) in enumerate(found):
        marks = [metrics[key] for key in ("hit@1", "hit@5", "hit@20")]
        heights = [mark["value"] for mark in marks]
        spread = [[mark["value"] - mark["low"] for mark in marks], [mark["high"] - mark["value"] for mark in marks]]
        at = [column + width * (place - (len(found) - 1) / 2) for column in range(3)]
        axes.bar(
            at, heights, width * 0.92, yerr=spread, label=described(name), error_kw={"lw": 0.8}, color=PICTURED[name]
        )
    axes.set_xticks(range(3), ["hit@1", "hit@5", "hit@20"])
    axes.set(ylim=(0, 1), ylabel="questions of nq.test", title="69,606 passages; EMDR2 learns from answers alone")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncol=3, frameon=False)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
