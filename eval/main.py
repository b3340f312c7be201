"""``ragkit eval``: score retrieval and, with a reader, answers; or compare two evaluations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ragkit.corpus import PassageStore, load_examples
from ragkit.errors import ConfigError, InputError
from ragkit.pipeline import keep_contexts
from ragkit.reader.open import require_trained
from ragkit.reader.protocol import Reader
from ragkit.retriever.dense import DenseRetriever
from ragkit.retriever.dual_encoder import DualEncoder
from ragkit.retriever.fusion import Fusion
from ragkit.retriever.open import open_retriever, open_store
from ragkit.retriever.protocol import Retriever
from ragkit.types import Example

from . import files, report
from .about import describe_reader, describe_retriever
from .compare import compare_runs
from .notes import checked_examples, gold_notes
from .relevance import answer_bearing, gold_passages, matchers
from .scores import answer_scores, gold_scores, hit_scores, intervals
from .steps import read, search


@dataclass(frozen=True)
class EvalJob:
    """Score ``data`` against an index into ``out``, or compare the two evaluations in ``compare``.

    One field a key of ``conf/eval.yaml``. Several index directories (of one corpus) are fused by ``fusion``.
    ``retriever`` takes the place of the encoder that a dense index names. The reader, if any, answers from the
    first ``n_passages`` of the ``k`` passages found (0: closed book, where it can). ``answers`` are "text" or "regex".
    ``seed`` is that of the bootstrap.
    """

    data: str | None = None
    index_dir: str | list[str] | None = None
    out: Path | None = None
    compare: list[str] | None = None
    k: int = 100
    n_passages: int = 20
    answers: str = "text"
    retriever: Any = None
    reader: Reader | None = None
    fusion: Callable[[Sequence[Retriever]], Retriever] = Fusion
    seed: int = 0
    overwrite: bool = False

    def run(self) -> None:
        """Evaluate, or compare; one table on standard output."""
        if self.compare is not None:
            self._compare(self.compare)
            return
        if self.data is None or self.index_dir is None or self.out is None:
            raise ConfigError("ragkit eval needs data=, index_dir= and out=, or compare=[RUN_A,RUN_B]")
        if self.k < 1 or self.n_passages < 0:
            raise ConfigError(f"k is {self.k}, wanted 1 or more, and n_passages {self.n_passages}, wanted 0 or more")
        matchers(self.answers)
        require_trained(self.reader)
        files.check_out(self.out, overwrite=self.overwrite)
        examples, notes = checked_examples(load_examples(self.data))
        index_dirs = [self.index_dir] if isinstance(self.index_dir, str) else list(self.index_dir)
        retrievers = self._open(index_dirs)
        retriever = retrievers[0] if len(retrievers) == 1 else self.fusion(retrievers)
        about = {"n": len(examples), "data": self.data, "index_dir": index_dirs, "k": self.k, "answers": self.answers}
        about["retrievers"] = [describe_retriever(one) for one in retrievers]
        about["reader"] = None if self.reader is None else describe_reader(self.reader)
        opened = retriever, open_store(index_dirs[0])
        if self.reader is not None:
            keep_contexts(self.reader, index_dirs[0])
        files.prepare_out(self.out, overwrite=self.overwrite)  # last: an earlier evaluation stays if an index is wrong
        self._evaluate(examples, opened, (self.out, about, notes))

    def _evaluate(
        self,
        examples: list[Example],
        opened: tuple[Retriever, PassageStore],
        record: tuple[Path, dict[str, Any], list[str]],
    ) -> None:
        (retriever, store), (out, about, notes) = opened, record
        hits, seconds = search(retriever, [example.question for example in examples], k=self.k)
        about["retrieval_questions_per_second"] = len(examples) / seconds
        gold = gold_passages(hits.rows, examples, store)
        bearing = answer_bearing(hits.rows, examples, store, rules=matchers(self.answers))
        scores = hit_scores(bearing, examples, k=self.k)
        notes += gold_notes(gold)
        if gold.is_usable:
            scores |= gold_scores(gold, k=self.k)
        if self.reader is not None:
            predictions, seconds = read(self.reader, examples, (hits, store), n_passages=self.n_passages)
            about |= {"n_passages": self.n_passages, "reader_questions_per_second": len(examples) / seconds}
            scores |= answer_scores(predictions, examples, kind=self.answers)
            files.write_predictions(out, examples, predictions)
        ids = [store.ids(line[line >= 0]) for line in hits.rows]
        try:
            files.write_trec(out, examples, hits=(hits, ids), gold=gold.ids if gold.is_usable else None)
        except InputError as error:  # ids with white space: the figures are still worth having
            notes.append(f"no TREC files: {error}")
        files.write_questions(out, examples, scores)
        found = intervals(scores, seed=self.seed)
        files.write_metrics(out, found, about=about | {"notes": notes})
        report.print_evaluation(found, about, notes=notes, out=out)

    def _open(self, index_dirs: list[str]) -> list[Retriever]:
        if not index_dirs:
            raise ConfigError("index_dir is an empty list; give at least one index directory")
        if self.retriever is not None and not isinstance(self.retriever, DualEncoder):
            kind = type(self.retriever).__name__
            raise ConfigError(f"retriever= replaces the encoder of a dense index, so a {kind} has no place here")
        retrievers = [open_retriever(folder, encoder=self.retriever) for folder in index_dirs]
        if self.retriever is not None and not any(isinstance(one, DenseRetriever) for one in retrievers):
            raise ConfigError(
                f"retriever= replaces the encoder of a dense index, and there is none in {', '.join(index_dirs)}; "
                "leave retriever= out, or add a dense index"
            )
        return retrievers

    def _compare(self, runs: list[str]) -> None:
        if len(runs) != 2:  # noqa: PLR2004
            raise ConfigError(f"compare wants two runs, compare=[RUN_A,RUN_B]; got {len(runs)}")
        a, b = (Path(run).expanduser() for run in runs)
        comparison = compare_runs(a, b, seed=self.seed)
        report.print_comparison(a, b, comparison)
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            tests = {name: asdict(test) for name, test in comparison.items()}
            files.write_json(self.out / "compare.json", {"a": str(a), "b": str(b)} | tests)
