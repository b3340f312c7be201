"""The experiments of docs/results.md, in order: a `ragkit` command each (scripts/results.py runs them)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

READER_SETS = ("nq", "squad", "triviaqa")
RETRIEVAL_SETS = ("nq", "squad")
SYSTEMS = {
    "bm25": ("BM25", "[{runs}/bm25]"),
    "minilm": ("MiniLM, zero-shot", "[{runs}/minilm]"),
    "fusion": ("BM25 + MiniLM, reciprocal-rank fusion", "[{runs}/bm25,{runs}/minilm]"),
    "dpr": ("MiniLM after `experiment=dpr` on nq.train", "[{runs}/dpr-index]"),
    "dpr-fusion": ("BM25 + trained MiniLM, reciprocal-rank fusion", "[{runs}/bm25,{runs}/dpr-index]"),
}
# question file, passages that the reader sees
READINGS = (("nq.dev", 5), *((f"{name}.test", 5) for name in READER_SETS))
# reader, what it is, question file, passages that it sees (0: closed book); all but squadsent with the best retriever
GENERATED = (
    ("fid-squadsent", "FiD, after squadsent with one passage", "squadsent/test", 1),
    ("reader", "extractive", "squadsent/test", 1),
    ("reader", "extractive", "squadsent/test", 5),
    *(("fid", "FiD", name, n) for name, n in READINGS),
    *(("fid-closed", "FiD, closed book", f"{name}.test", 0) for name in READER_SETS),
)
PAIRS = (("bm25", "minilm"), ("minilm", "fusion"), ("minilm", "dpr"), ("fusion", "dpr-fusion"))


@dataclass(frozen=True)
class Step:
    """One command, named by the folder or file it leaves behind."""

    name: str
    words: tuple[str, ...]
    leaves: str  # below the runs folder; its being there means the step is done


def index_step(name: str, retriever: str, *more: str) -> Step:
    words = ("index", "corpus={data}/corpus.tsv", f"retriever={retriever}", *more, f"out={{runs}}/{name}")
    return Step(name, words, f"{name}/CURRENT")


def eval_step(name: str, data: str, index_dir: str, *more: str) -> Step:
    words = ("eval", f"data={{data}}/{data}.jsonl", f"index_dir={index_dir}", *more, f"out={{runs}}/{name}")
    return Step(name, words, f"{name}/metrics.json")


def best_retriever() -> str:
    """What the reader reads from: the best mean hit@5 and hit@20 over nq.dev and squad.dev."""
    return SYSTEMS["dpr-fusion"][1]


def steps() -> list[Step]:
    """Every experiment, in an order in which each finds what it needs."""
    train = ("train", "experiment=dpr", "data.train={data}/nq.train.jsonl", "data.dev={data}/nq.dev.jsonl")
    sets = ",".join(f"{{data}}/{name}.train.jsonl" for name in (*READER_SETS, "nqdistant"))
    read = (
        *("train", "experiment=extractive", f"data.train=[{sets}]", "data.dev={data}/nq.dev.jsonl"),
        *(
            "policy.epochs=null",
            "policy.steps=700",
            "policy.save.eval_every=350",
            "policy.optimizer.learning_rate=2e-4",
        ),
        *(
            "task.options.n_passages=3",
            "task.options.frozen_layers=3",
            "task.options.dev_passages=4",
            "out={runs}/reader",
        ),
    )
    found = [
        index_step("bm25", "bm25"),
        index_step("minilm", "minilm", "vectors={data}/minilm/vectors.npy"),
        Step("dpr", (*train, "out={runs}/dpr"), "dpr/metrics.json"),
        index_step("dpr-index", "{runs}/dpr/retriever"),
        Step("reader", read, "reader/metrics.json"),
    ]
    for split in ("dev", "test"):
        found += [
            eval_step(f"eval/{data}.{split}-{system}", f"{data}.{split}", index_dir)
            for data in RETRIEVAL_SETS
            for system, (_, index_dir) in SYSTEMS.items()
        ]
    for data in RETRIEVAL_SETS:
        for a, b in PAIRS:
            runs = f"[{{runs}}/eval/{data}.test-{b},{{runs}}/eval/{data}.test-{a}]"
            name = f"compare/{data}-{a}-{b}"
            found.append(Step(name, ("eval", f"compare={runs}", f"out={{runs}}/{name}"), f"{name}/compare.json"))
    found += [
        eval_step(f"eval/{name}-reader{n}", name, best_retriever(), "reader={runs}/reader", f"n_passages={n}")
        for name, n in READINGS
    ]
    return found + fid_steps(sets)


def fid_steps(sets: str) -> list[Step]:
    """FiD begun from the extractive reader's MiniLM: squadsent first, then the readers' sets; and without passages."""
    train = ("train", "experiment=fid", "policy.epochs=null", "policy.optimizer.clip=1.0", "task.options.dropout=0.0")
    train += ("task.options.frozen_words=true",)
    fresh = ("reader=minilm_fid", "reader.encoder={runs}/reader/reader", "task.options.frozen_encoder=true")
    fresh += ("policy.optimizer.learning_rate=1e-3", "policy.batch_size=32")
    small = ("data.train={data}/squadsent/train.jsonl", "data.dev={data}/squadsent/dev.jsonl")
    large = (f"data.train=[{sets}]", "data.dev={data}/nq.dev.jsonl", "task.options.dev_questions=100")
    gold = ("task.options.passages=gold", "task.options.answer=in_passages")
    runs = {
        "fid-squadsent": (
            *(*fresh, *small, *gold, *_steps(350, 2), "task.options.n_passages=1", "task.options.dev_questions=200"),
        ),
        "fid": (
            *("reader={runs}/fid-squadsent", "policy.optimizer.learning_rate=2e-4", "policy.batch_size=12"),
            *(*large, *gold, *_steps(600, 2), "task.options.frozen_layers=3", "task.options.n_passages=2"),
            *("task.options.draw=random", "task.options.order=shuffled", "task.options.dev_passages=4"),
        ),
        "fid-closed": (*fresh, *large, *_steps(200, 1), "task.options.n_passages=0"),
    }
    found = [
        Step(name, (*train, *words, f"out={{runs}}/{name}"), f"{name}/metrics.json") for name, words in runs.items()
    ]
    words = ("index", "corpus={data}/squadsent/corpus.tsv", "retriever=bm25", "out={runs}/squadsent-bm25")
    found.append(Step("squadsent-bm25", words, "squadsent-bm25/CURRENT"))
    for reader, _, data, n in GENERATED:
        index_dir = "{runs}/squadsent-bm25" if data.startswith("squadsent") else best_retriever()
        words = (f"reader={{runs}}/{reader}", f"n_passages={n}")
        found.append(eval_step(generated_name(reader, data, n), data, index_dir, *words))
    return found


def generated_name(reader: str, data: str, n: int) -> str:
    return f"eval/{data.replace('/', '.')}-{reader}{n}"


def _steps(n: int, evaluations: int) -> tuple[str, ...]:
    return (f"policy.steps={n}", f"policy.save.eval_every={n // evaluations}")


def filled(step: Step, *, data: Path, runs: Path) -> list[str]:
    return [word.replace("{data}", str(data)).replace("{runs}", str(runs)) for word in step.words]
