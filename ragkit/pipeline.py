"""The Python API: find passages, read the answer from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ragkit.corpus import PassageStore
from ragkit.errors import ConfigError, IndexMismatch, InputError
from ragkit.reader.open import open_reader, require_trained
from ragkit.reader.protocol import ContextKeeper, Explain, ExplainingReader, Reader
from ragkit.retriever.protocol import Retriever
from ragkit.types import Prediction, ScoredPassage, SearchResult


class RetrieveThenRead:
    """A retriever, the passages it finds, and a reader that answers from them (None: retrieval only)."""

    def __init__(self, retriever: Retriever, store: PassageStore, *, reader: Reader | None = None) -> None:
        if retriever.corpus_digest != store.digest:
            raise IndexMismatch(
                f"the retriever searches corpus {retriever.corpus_digest[:8]} and the passages in {store.folder} are "
                f"corpus {store.digest[:8]}: its rows would name the wrong passages; open both from one index directory"
            )
        require_trained(reader)
        self.retriever, self.store, self.reader = retriever, store, reader

    def answer(self, question: str, k: int = 20, *, explain: Explain | None = None) -> Prediction:
        """The answer to one question from its ``k`` best passages; nothing found: the empty prediction.

        ``explain`` asks a generative reader what each passage contributed
        (:class:`ragkit.reader.ExplainingReader`); an extractive reader says so anyhow.
        """
        if not isinstance(question, str):
            raise InputError(f"answer takes one question, got a {type(question).__name__}; use answer_all for several")
        return self.answer_all([question], k=k, explain=explain)[0]

    def answer_all(self, questions: Sequence[str], k: int = 20, *, explain: Explain | None = None) -> list[Prediction]:
        """One prediction a question; much faster than one :meth:`answer` after the other."""
        if self.reader is None:
            raise ConfigError("there is no reader to answer with; give one: ragkit.load(index_dir=..., reader=RUN)")
        return read(self.reader, list(questions), self.passages(self.retrieve(questions, k=k)), explain=explain)

    def retrieve(self, questions: Sequence[str], k: int = 20) -> SearchResult:
        """The rows and scores of the ``k`` best passages of every question, ``[query, k]``."""
        if isinstance(questions, str):
            raise InputError(f"questions must be a list of strings, got one string; write [{questions!r}]")
        empty = [row for row, question in enumerate(questions) if not question.strip()]
        if empty:
            raise InputError(f"questions {empty[:5]} are empty; every question must have some text")
        if k < 1:
            raise InputError(f"k is {k}; it must be 1 or more")
        return self.retriever.search(list(questions), k=k)

    def passages(self, hits: SearchResult) -> list[list[ScoredPassage]]:
        """The passages of the hits with their scores, one list a question; missing hits are left out."""
        is_hit = hits.rows >= 0
        found = iter(self.store.take(hits.rows[is_hit]))
        return [
            [ScoredPassage(next(found), float(score)) for score in scores[there]]
            for scores, there in zip(hits.scores, is_hit, strict=True)
        ]


def read(
    reader: Reader,
    questions: Sequence[str],
    passages: Sequence[Sequence[ScoredPassage]],
    *,
    explain: Explain | None = None,
) -> list[Prediction]:
    """The reader's answers, explained where that is asked for; ConfigError where this reader cannot explain so."""
    if explain is None:
        return reader.answer(questions, passages)
    possible = reader.explanations if isinstance(reader, ExplainingReader) else ()
    if not isinstance(reader, ExplainingReader) or explain not in possible:
        raise ConfigError(
            f"a {type(reader).__name__} cannot explain an answer by {explain!r}; "
            + (f"choose from {sorted(possible)}" if possible else "leave explain out")
        )
    return reader.answer(questions, passages, explain=explain)


def keep_contexts(reader: Reader, index_dir: Path | str) -> None:
    """Let a reader that keeps what it computes of passages (causal, ``context=parallel``) do so beside the index."""
    if isinstance(reader, ContextKeeper):
        reader.keep_contexts(Path(index_dir) / "kv")


def load(
    index_dir: Path | str | Sequence[Path | str],
    reader: Reader | Path | str | None = None,
    *,
    device: str = "auto",
) -> RetrieveThenRead:
    """What answers questions from an index directory, or from several of one corpus fused by reciprocal ranks.

    ``reader`` is the folder of a training run (or its ``reader/``), a model reference, a reader object, or None for
    retrieval only. Raises what :func:`ragkit.retriever.open.open_retriever` and :func:`ragkit.reader.open_reader` do.
    """
    from ragkit.retriever.fusion import Fusion  # noqa: PLC0415  torch, transformers and FAISS take seconds to import
    from ragkit.retriever.open import open_retriever, open_store  # noqa: PLC0415

    folders = [index_dir] if isinstance(index_dir, Path | str) else list(index_dir)
    if not folders:
        raise InputError("index_dir is an empty list; give at least one index directory")
    opened: Reader | None
    if isinstance(reader, Path | str):
        opened = open_reader(str(reader), device=device)  # first: a wrong reader should not wait for a large index
    else:
        opened = reader
        require_trained(opened)
    if opened is not None:
        keep_contexts(opened, folders[0])
    retrievers = [open_retriever(folder, device=device) for folder in folders]
    retriever = retrievers[0] if len(retrievers) == 1 else Fusion(retrievers)
    return RetrieveThenRead(retriever, open_store(folders[0]), reader=opened)
