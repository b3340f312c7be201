"""Retrievers that learn from answers alone, on real questions: a `ragkit` command each (scripts/results_answers.py)."""

from __future__ import annotations

from dataclasses import dataclass

from results_steps import Step, eval_step, index_step


@dataclass(frozen=True)
class Learner:
    """A retriever that is trained: what it is, what it starts from, and the words of its training."""

    what: str
    start: str  # of STARTS, or another learner
    words: tuple[str, ...]
    questions: str = "nq"

    @property
    def is_supervised(self) -> bool:
        """Whether it reads gold passages."""
        return "experiment=dpr" in self.words

    @property
    def rate(self) -> tuple[str, ...]:
        """The words that set its learning rate; none: the default."""
        return tuple(word for word in self.words if word.startswith("policy.optimizer.learning_rate="))


_COMMON = (
    *("policy.epochs=null", "policy.batch_size=12", "policy.optimizer.learning_rate=1e-4", "policy.save.eval_every=40"),
    *("policy.save.export=last", "task.options.finding.k=8"),
)
_FIRST = ("policy.steps=160", "refresh=sync", "task.refresh.schedule=56-57:1", *_COMMON)
_SECOND = ("policy.steps=160", "refresh=sync", "task.refresh.schedule=80-81:1", *_COMMON, "policy.seed=1")
_QUERY = ("policy.steps=80", "refresh=never", "task.options.teaching.retriever=query", "retriever.shared=false")
_SHUFFLED = "task.options.teaching.shuffle_answers=true"
_LOSSES = {"emdr2": "EMDR2", "ldist": "LDist", "lool": "LOOL", "adist": "ADist"}


def _atlas(loss: str, *more: str) -> tuple[str, ...]:
    """ADist needs the cross-attention of a FiD reader; the other losses ask the extractive one, which reads better.

    The small reader's values are short: at a temperature of 1 its attention would be a target of equal shares.
    """
    if loss == "adist":
        more, reader = (*more, "task.loss.loss.feedback_temperature=0.05"), "fid"
    else:
        reader = "reader"
    return ("experiment=atlas", f"loss={loss}", *more, f"reader={{runs}}/{reader}")


def _query_side(start: str, questions: str) -> dict[str, Learner]:
    """The query tower alone with each of the four losses, and with other questions' answers."""
    prefix = "-".join(("query", *([] if start == "minilm3" else [start]), *([] if questions == "nq" else [questions])))
    found = {
        f"{prefix}-{loss}": Learner(f"{what}, query tower only", start, _atlas(loss, *_QUERY, *_COMMON), questions)
        for loss, what in _LOSSES.items()
    }
    shuffled = Learner(
        "EMDR2, query tower only, shuffled answers", start, _atlas("emdr2", _SHUFFLED, *_QUERY, *_COMMON), questions
    )
    return found | {f"{prefix}-shuffled": shuffled}


_DPR = ("experiment=dpr", "policy.epochs=2")
_FAST_DPR = (*_DPR, "policy.optimizer.learning_rate=1e-4")
LEARNERS = {
    "minilm3-dpr": Learner("DPR with gold passages, rate 2e-5", "minilm3", _DPR),
    "minilm3-dpr-1e4": Learner("DPR with gold passages, rate 1e-4", "minilm3", _FAST_DPR),
    **{f"atlas-{loss}": Learner(what, "minilm3", _atlas(loss, *_FIRST)) for loss, what in _LOSSES.items()},
    "atlas-shuffled": Learner("EMDR2, shuffled answers", "minilm3", _atlas("emdr2", _SHUFFLED, *_FIRST)),
    "atlas-emdr2-second": Learner("EMDR2, a second pass", "atlas-emdr2", _atlas("emdr2", *_SECOND)),
    **_query_side("minilm3", "nq"),
    **_query_side("minilm", "nq"),
    "minilm3-squad-dpr": Learner("DPR with gold passages of squad, rate 1e-4", "minilm3", _FAST_DPR, "squad"),
    **_query_side("minilm3", "squad"),
    "minilm-squad-dpr": Learner("DPR with gold passages of squad, rate 2e-5", "minilm", _DPR, "squad"),
    **_query_side("minilm", "squad"),
}
STARTS = {"minilm3": "MiniLM's first three layers", "minilm": "MiniLM"}
# questions that a learner trained on -> what it is measured on
SETS = {"nq": ("nq.dev", "nq.test", "squad.test"), "squad": ("squad.test",)}


def root(name: str) -> str:
    """The untrained retriever that a learner goes back to; a start is its own."""
    return name if name in STARTS else root(LEARNERS[name].start)


def index_of(name: str) -> str:
    """The index folder of a start or a learner; an atlas run keeps its own up to date."""
    if name == "minilm":
        return name  # that of scripts/results.py
    learner = LEARNERS.get(name)
    return f"{name}/index" if learner and not learner.is_supervised else f"{name}-index"


def retriever_of(name: str) -> str:
    """The word that names the retriever of a start or a learner."""
    if name in LEARNERS:
        return f"{{runs}}/{name}/retriever"
    return name if name == "minilm" else f"{{runs}}/{name}"


def steps() -> list[Step]:
    """Every experiment, in an order in which each finds what it needs.

    ``runs/minilm3`` comes before (scripts/first_layers.py), and the steps `reader`, `fid-squadsent`, `fid` and `minilm`
    of scripts/results.py.
    """
    found = [index_step("minilm3-index", retriever_of("minilm3"))]
    for name, learner in LEARNERS.items():
        files = [f"data.{split}={{data}}/{learner.questions}.{split}.jsonl" for split in ("train", "dev")]
        more = [] if learner.is_supervised else [f"index_dir={{runs}}/{index_of(learner.start)}"]
        words = ("train", *learner.words, f"retriever={retriever_of(learner.start)}", *more, *files)
        found.append(Step(name, (*words, f"out={{runs}}/{name}"), f"{name}/metrics.json"))
        if learner.is_supervised:
            found.append(index_step(index_of(name), retriever_of(name)))
    found += [eval_step(f"eval/{data}-minilm3", data, f"{{runs}}/{index_of('minilm3')}") for data in SETS["nq"]]
    found += [eval_step(f"eval/{data}-minilm", data, f"[{{runs}}/{index_of('minilm')}]") for data in SETS["nq"]]
    for name, learner in LEARNERS.items():
        found += [
            eval_step(f"eval/{data}-{name}", data, f"{{runs}}/{index_of(name)}") for data in SETS[learner.questions]
        ]
    return found
