"""What retrievers find in a part of the corpus: the gold passages of nq and others drawn by a seed.

Figures in 69,606 passages say little beside those of a trial in 10,896: the fewer passages, the easier the search. This
takes the vectors that an index has, leaves out the other passages, and counts. Writes RUNS/subset.json, of which
scripts/results_answers.py makes a table.

    python scripts/results_subset.py --data DATA --runs runs/results minilm3 atlas-emdr2 atlas-emdr2-second
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from results_answers_steps import index_of

from ragkit.corpus import PassageStore, load_examples
from ragkit.index import open_index
from ragkit.index.vectors import vector_blocks, vector_headers
from ragkit.metrics import bootstrap_interval, has_answer, hit_at_k
from ragkit.retriever.dense import DenseRetriever
from ragkit.retriever.open import CORPUS, open_retriever
from ragkit.types import Example

CUTS = (1, 5, 20)
SPLITS = ("train", "dev", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="+", help="starts or learners of results_answers_steps.py")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with nq.train.jsonl, nq.dev.jsonl, nq.test.jsonl"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/results"), help="where the indexes are")
    parser.add_argument("--passages", type=int, default=10_896)
    parser.add_argument("--questions", default="nq.dev")
    options = parser.parse_args()
    asked = load_examples(str(options.data / f"{options.questions}.jsonl"))
    found = {}
    for name in options.names:
        folder = options.runs / index_of(name)
        store = PassageStore.open(folder / CORPUS)
        rows = drawn_rows(store, gold_ids(options.data), count=options.passages)
        found[name] = figures(folder, store, asked, rows=rows)
        print(name, "  ".join(f"{key} {figure['value']:.3f}" for key, figure in found[name].items()), flush=True)
    result = {"passages": options.passages, "questions": options.questions, "figures": found}
    (options.runs / "subset.json").write_text(json.dumps(result, indent=1), encoding="utf-8")


def gold_ids(data: Path) -> set[str]:
    examples = [example for split in SPLITS for example in load_examples(str(data / f"nq.{split}.jsonl"))]
    return {passage.id for example in examples for passage in example.positives}


def drawn_rows(store: PassageStore, ids: set[str], *, count: int) -> Int64[np.ndarray, " passage"]:
    """The rows of the gold passages, and others drawn by seed 0 up to the count."""
    every = np.arange(len(store))
    gold = every[[one in ids for one in store.ids(every)]]
    others = np.setdiff1d(every, gold)
    drawn = np.random.default_rng(0).choice(others, count - len(gold), replace=False)
    return np.sort(np.concatenate([gold, drawn]))


def figures(
    folder: Path, store: PassageStore, asked: list[Example], *, rows: Int64[np.ndarray, " passage"]
) -> dict[str, dict[str, float]]:
    """hit@k with its interval where only these rows are searched, exactly."""
    retriever = open_retriever(folder)
    assert isinstance(retriever, DenseRetriever)  # every index here is one of vectors
    scores = retriever.encoder.encode_queries([one.question for one in asked]) @ stored_vectors(folder)[rows].T
    best = rows[np.argsort(-scores, axis=1, kind="stable")[:, : max(CUTS)]]
    lines = [store.take(line) for line in best]
    answered = np.array([[has_answer(p.text, one.answers) for p in ps] for ps, one in zip(lines, asked, strict=True)])
    values = {f"hit@{cut}": hit_at_k(answered, cut) for cut in CUTS}
    intervals = {key: bootstrap_interval(v, generator=np.random.default_rng(0)) for key, v in values.items()}
    return {key: {"value": one.value, "low": one.low, "high": one.high} for key, one in intervals.items()}


def stored_vectors(folder: Path) -> Float32[np.ndarray, "passage dim"]:
    files = vector_headers(sorted(open_index(folder).folder.glob("vectors-*.npy")))
    return np.concatenate(list(vector_blocks(files)))


if __name__ == "__main__":
    main()
