"""Retrievers that learn from answers alone, on real questions: a `ragkit` command each (scripts/results_answers.py)."""

from __future__ import annotations

from dataclasses import dataclass

from results_steps import Step, eval_step, index_step


@dataclass(frozen=True)
class Learner:
    """A retriever that is trained: what it is, the retriever that it starts from, and the words of its training."""

    what: str
    start: str
    words: tuple[str, ...]
    questions: str = "nq"

    @property
    def is_supervised(self) -> bool:
        """Whether it reads gold passages."""
        return "experiment=dpr" in self.words


_COMMON = (
    *("policy.epochs=null", "policy.batch_size=12", "policy.optimizer.learning_rate=1e-4", "policy.save.eval_every=40"),
    *("policy.save.export=last", "task.options.finding.k=8", "reader={runs}/reader"),
)
_FIRST = ("policy.steps=160", "refresh=sync", "task.refresh.schedule=56-57:1", *_COMMON)
_QUERY = ("policy.steps=80", "refresh=never", "task.options.teaching.retriever=query", "retriever.shared=false")


def _atlas(loss: str, *more: str) -> tuple[str, ...]:
    return ("experiment=atlas", f"loss={loss}", *more)


_DPR = ("experiment=dpr", "policy.epochs=2")
_SHUFFLED = "task.options.teaching.shuffle_answers=true"
LEARNERS = {
    "minilm3-dpr": Learner("DPR with gold passages, rate 2e-5", "minilm3", _DPR),
    "minilm3-dpr-1e4": Learner(
        "DPR with gold passages, rate 1e-4", "minilm3", (*_DPR, "policy.optimizer.learning_rate=1e-4")
    ),
    "atlas-emdr2": Learner("EMDR2", "minilm3", _atlas("emdr2", *_FIRST)),
    "atlas-ldist": Learner("LDist", "minilm3", _atlas("ldist", *_FIRST)),
    "query-emdr2": Learner("EMDR2, query tower only, 80 updates", "minilm3", _atlas("emdr2", *_QUERY, *_COMMON)),
    "query-shuffled": Learner(
        "the same with shuffled answers", "minilm3", _atlas("emdr2", _SHUFFLED, *_QUERY, *_COMMON)
    ),
}
STARTS = {"minilm3": "MiniLM's first three layers"}
SETS = ("nq.dev", "nq.test", "squad.test")


def index_of(name: str) -> str:
    """The index folder of a start or a learner; an atlas run keeps its own up to date."""
    learner = LEARNERS.get(name)
    return f"{name}/index" if learner and not learner.is_supervised else f"{name}-index"


def steps() -> list[Step]:
    """Every experiment, in an order in which each finds what it needs.

    ``runs/minilm3`` and ``runs/reader`` come before: scripts/first_layers.py and scripts/results.py make them.
    """
    found = [index_step(index_of(name), f"{{runs}}/{name}") for name in STARTS]
    for name, learner in LEARNERS.items():
        files = [f"data.{split}={{data}}/{learner.questions}.{split}.jsonl" for split in ("train", "dev")]
        more = [] if learner.is_supervised else [f"index_dir={{runs}}/{index_of(learner.start)}"]
        words = ("train", *learner.words, f"retriever={{runs}}/{learner.start}", *more, *files, f"out={{runs}}/{name}")
        found.append(Step(name, words, f"{name}/metrics.json"))
        if learner.is_supervised:
            found.append(index_step(index_of(name), f"{{runs}}/{name}/retriever"))
    for name in (*STARTS, *LEARNERS):
        found += [eval_step(f"eval/{data}-{name}", data, f"{{runs}}/{index_of(name)}") for data in SETS]
    return found
