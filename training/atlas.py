"""ATLAS: a retriever learns from the reader's feedback, the reader from what was retrieved, the index follows."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ragkit import distributed
from ragkit.corpus import PassageStore
from ragkit.errors import ConfigError
from ragkit.feedback import AnsweredQuestions
from ragkit.reader.protocol import Reader
from ragkit.refresh import clone_index
from ragkit.retriever import DualEncoder
from ragkit.retriever.open import CORPUS
from ragkit.types import Example

from .data import DataFiles, load_questions
from .finding import FindingOptions, Found, find_passages
from .first_search import check_first_search
from .modules import set_dropout
from .objectives import Objective, Retrieved, warn_of_flat_targets
from .pretext import PretextOptions, pretext_examples
from .refresh import Refresher
from .refresh_policy import RefreshPolicy
from .scoring import score_passages
from .sharing import encode_for_both, encodes_alike, passages_at
from .task import Backward
from .teaching import TeachingOptions, drawn_answers, taught_examples
from .unlabelled import dev_figures

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AtlasOptions:
    """Which passages a question gets, what is trained on them, and the questions that are made where none are given."""

    finding: FindingOptions = field(default_factory=FindingOptions)
    teaching: TeachingOptions = field(default_factory=TeachingOptions)
    pretext: PretextOptions | None = None


class AtlasBatch(NamedTuple):
    """Questions with the passages found for them, and the answer (or answers) that judge these."""

    items: Sequence[Example]
    found: Found
    answers: list[Any]


class AtlasTask:
    """A :class:`~.task.Task` and :class:`~.task.Paced`: questions and answers, two models, and the live index.

    In every update: search with the live index, encode the passages found anew with gradient, ask the reader what it
    thinks of them, and let ``objective`` reach the retriever alone; and, where the reader learns too, its own loss on
    the same passages reaches the reader alone. Gold passages of the examples are read by a
    :class:`~.objectives.GoldObjective` only, and to evaluate.
    """

    def __init__(  # noqa: PLR0913  a constructor: eight at most
        self,
        retriever: DualEncoder,
        reader: Reader | None,
        *,
        train: Sequence[Example],
        dev: Sequence[Example] = (),
        live: Refresher,
        objective: Objective,
        options: AtlasOptions | None = None,
    ) -> None:
        options = options or AtlasOptions()
        self.encoder, self.reader, self.live, self.store = retriever, reader, live, live.store
        self._dev, self.objective = list(dev), objective
        self.finding, self.teaching = options.finding, options.teaching
        _check(retriever, reader, teaching=self.teaching)
        self.finding.check(len(self.store))
        self.items, n_dropped = taught_examples(train, self.teaching)
        if self.teaching.retriever != "frozen":
            first = self.items[0]
            objective.check(reader, AnsweredQuestions([first.question], [self.store.take([0])], self._answers([first])))
        log.info("%d examples to learn from; %d without an answer dropped", len(self.items), n_dropped)
        if self.teaching.reader_dropout is not None:
            set_dropout(cast(nn.Module, reader), self.teaching.reader_dropout)
        if self.teaching.retriever == "query":
            retriever.passage_tower.requires_grad_(False)
        self._update, self._is_target_known = 0, False

    @classmethod
    def from_files(  # noqa: PLR0913  what the configuration gives
        cls,
        retriever: object,
        reader: Reader | None,
        *,
        data: DataFiles,
        index_dir: Path | None,
        out: Path,
        loss: Objective,
        refresh: RefreshPolicy,
        options: AtlasOptions | None = None,
    ) -> AtlasTask:
        """The task of question files and an index of the passages, which is copied (linked) to ``out/index``.

        The index may be of another encoder than ``retriever`` if its vectors have as many dimensions and a refresh
        makes all of them anew before the first update (:func:`~.first_search.check_first_search`). Raises ConfigError
        where something is missing.
        """
        if not isinstance(retriever, DualEncoder):
            raise ConfigError(f"experiment=atlas trains a dual encoder, not {type(retriever).__name__}")
        options = options or AtlasOptions()
        if (data.train is None) == (options.pretext is None) or index_dir is None:
            raise ConfigError(
                "experiment=atlas needs an index and questions: index_dir=DIR and either data.train=FILE or "
                "task.options.pretext, which makes them from the passages"
            )
        check_first_search(index_dir, retriever, refresh, is_refreshed=options.teaching.retriever != "frozen")
        index = out / "index"
        if distributed.is_main():
            clone_index(index_dir, index)
        distributed.barrier()
        store = PassageStore.open(index / CORPUS)
        made = pretext_examples(store, options.pretext) if options.pretext else []
        train, dev = made or load_questions(data.train), load_questions(data.dev)
        queries = [example.question for example in dev or train]
        live = Refresher(refresh, index, retriever, store, queries=queries, seed=options.teaching.seed)
        return cls(retriever, reader, train=train, dev=dev, live=live, objective=loss, options=options)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The models that are trained."""
        trained: dict[str, nn.Module] = {}
        if self.teaching.retriever != "frozen":
            trained["retriever"] = self.encoder
        if self.teaching.reader == "trained":
            trained["reader"] = cast(nn.Module, self.reader)
        return trained

    @property
    def settings(self) -> Mapping[str, Any]:
        """Data, both models, the objective and the options."""
        models = {
            "retriever": {"reference": self.encoder.reference, **self.encoder.options.to_dict()},
            "reader": {"reference": str(getattr(self.reader, "reference", "")), "kind": type(self.reader).__name__},
        }
        return {
            "task": "atlas",
            "data": _digest(self.items),
            "corpus": self.store.digest[:16],
            "models": models,
            "objective": json.loads(json.dumps(self.objective.settings)),
            "refresh": self.live.policy.identity(),
            **asdict(self.finding),
            **self.teaching.identity(),
        }

    def begin(self, update: int) -> Mapping[str, Any]:
        """Let the index follow the retriever where that is due; what it did, for the log."""
        self._update = update
        if self.teaching.retriever == "frozen" or 0 < update < self.teaching.freeze_retriever_steps:
            return {}
        event = self.live.step(update)
        return {} if event is None else event.figures()

    def finish(self) -> None:
        """Bring the index in line with the weights that are exported."""
        if self.teaching.retriever != "frozen":
            self.live.refresh(self._update + 1)

    def state(self) -> Mapping[str, Any]:
        """The index's, for a checkpoint."""
        return {"index": self.live.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The index as it was at the checkpoint."""
        self.live.load(state["index"])

    def close(self) -> None:
        """Stop what runs in the background and let go of the index."""
        self.live.close()

    def collate(self, items: Sequence[Example], *, generator: torch.Generator) -> AtlasBatch:
        """The passages that the live index finds for each question, and the answers that judge them."""
        found = find_passages(self.live.searcher, items, store=self.store, encoder=self.encoder, options=self.finding)
        self.live.note_searched(found.rows)
        answers = self._answers(items, seed=generator.initial_seed())
        return AtlasBatch(items, found, answers)

    def _answers(self, items: Sequence[Example], *, seed: int = 0) -> list[Any]:
        """One answer a question, drawn; of a reader that takes them all, all."""
        takes_all = bool(getattr(self.reader, "takes_all_answers", False))
        return [item.answers for item in items] if takes_all else drawn_answers(items, seed=seed)

    def backward(self, batch: AtlasBatch, *, backward: Backward) -> dict[str, float]:
        """The retriever's objective and the reader's loss; each has a graph of its own."""
        losses: dict[str, float] = {}
        figures: dict[str, float] = {}
        for name, loss, found in self._losses(batch):
            backward(loss)
            losses[name] = float(loss.detach())
            figures |= found
        if not self._is_target_known:
            self._is_target_known = True
            warn_of_flat_targets(figures, k=self.finding.k)
        return {"loss": sum(losses.values()), **losses, **figures}

    def _losses(self, batch: AtlasBatch) -> Iterator[tuple[str, Float[Tensor, ""], Mapping[str, float]]]:
        """The loss of each model that learns now, and what was found out with it.

        The graph of the first may go before the second is computed.
        """
        asked = AnsweredQuestions([item.question for item in batch.items], batch.found.passages, batch.answers)
        is_taught = self.teaching.retriever != "frozen" and self._update >= self.teaching.freeze_retriever_steps
        is_read = self.teaching.reader == "trained"
        if is_taught and is_read and self.objective.n_signals and encodes_alike(self.reader):
            own, asked = encode_for_both(self.reader, asked, read=self._read(asked))
            # the reader's loss first: what its encoder keeps for the gradient is gone when the retriever encodes
            yield "reader_loss", self.reader.nll(own, batch.answers, label_smoothing=self.teaching.label_smoothing), {}
            is_read = False
        if is_taught:
            found = self._retrieved(batch.items, asked)
            yield "retriever_loss", self.objective(found), found.figures
        if is_read:
            yield "reader_loss", self._reader_loss(asked), {}

    def _retrieved(self, items: Sequence[Example], asked: AnsweredQuestions) -> Retrieved:
        frozen = self.teaching.retriever == "query"
        scores, mask, queries = score_passages(self.encoder, asked, is_passage_frozen=frozen)
        return Retrieved(scores, mask, queries, asked, items, self.reader, self.encoder)

    def _read(self, asked: AnsweredQuestions) -> list[list[int]]:
        """Where the passages stand that the reader's own loss sees: the first of those that have text."""
        n = self.finding.reader_k or self.finding.k
        return [[at for at, passage in enumerate(line) if passage.text][:n] for line in asked.passages]

    def _reader_loss(self, asked: AnsweredQuestions) -> Float[Tensor, ""]:
        reader: Any = self.reader
        passages = passages_at(self._read(asked), asked)
        loss: Tensor = reader.answer_nll(
            asked.questions, passages, asked.answers, label_smoothing=self.teaching.label_smoothing
        )
        return loss

    def evaluate(self) -> dict[str, float]:
        """What the live index finds for the dev questions, and how well a reader that learns answers them.

        ``index_overlap``, where the schedule has no refresh to measure it: :meth:`~.refresh.Refresher.overlap`.
        """
        reader = self.reader if self.teaching.reader == "trained" else None
        figures = dev_figures(self.live.retriever, self._dev, store=self.store, reader=reader, k=self.finding.k)
        overlap = self.live.overlap() if figures else None
        return figures if overlap is None else {**figures, "index_overlap": overlap}

    def export(self, out: Path) -> None:
        """Write OUT/retriever and OUT/reader: those that were trained."""
        if self.teaching.retriever != "frozen":
            self.encoder.save_pretrained(out / "retriever")
        if self.teaching.reader == "trained" and self.reader is not None:
            self.reader.save_pretrained(out / "reader")


def _check(encoder: DualEncoder, reader: Reader | None, *, teaching: TeachingOptions) -> None:
    """Raise ConfigError for what cannot work, before anything is computed."""
    model: Any = reader
    if teaching.reader == "trained" and not (isinstance(model, nn.Module) and hasattr(model, "answer_nll")):
        raise ConfigError(f"a {type(reader).__name__} has no loss to be trained by; leave task.teaching.reader=frozen")
    if teaching.retriever == "query" and encoder.shared:
        raise ConfigError(
            "teaching.retriever=query trains the query tower alone, and this encoder has one tower for both; "
            "give the passages a tower of their own: retriever.shared=false"
        )


def _digest(examples: Sequence[Example]) -> str:
    """Sha256 of questions and answers, 16 characters: whether a resumed run has the same data."""
    total = hashlib.sha256()
    for example in examples:
        total.update(
            repr((example.id, example.question, example.answers, example.target)).encode("utf-8", "surrogatepass")
        )
    return total.hexdigest()[:16]
