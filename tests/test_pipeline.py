"""The Python API: find, then read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import ragkit
from ragkit.corpus import PassageStore, write_store
from ragkit.errors import ConfigError, IndexMismatch, InputError
from ragkit.index.order import order_hits
from ragkit.pipeline import RetrieveThenRead, keep_contexts
from ragkit.types import Evidence, Passage, Prediction, ScoredPassage, SearchResult

PASSAGES = [Passage(str(row), text, f"T{row}") for row, text in enumerate(["rome is old", "paris", "who wrote hamlet"])]


class WordRetriever:
    """Finds the passages that share a word with the query; the score is the number of shared words."""

    def __init__(self, digest: str) -> None:
        self.corpus_digest = digest

    def search(self, queries: Sequence[str], *, k: int) -> SearchResult:
        scores = np.array(
            [[len({*query.split()} & {*passage.text.split()}) for passage in PASSAGES] for query in queries],
            dtype=np.float32,
        ).reshape(len(queries), len(PASSAGES))
        rows = np.broadcast_to(np.arange(len(PASSAGES)), scores.shape)
        found = order_hits(rows, np.where(scores > 0, scores, -np.inf))
        return SearchResult(found.rows[:, :k], found.scores[:, :k])


class FirstWordReader:
    """Answers with the first word of the best passage."""

    def answer(self, questions: Sequence[str], passages: Sequence[Sequence[ScoredPassage]]) -> list[Prediction]:
        return [
            Prediction(
                hits[0].passage.text.split()[0],
                -0.5,
                tuple(Evidence(hit.passage, hit.score, 1 / len(hits)) for hit in hits),
            )
            if hits
            else Prediction("", float("-inf"))
            for _, hits in zip(questions, passages, strict=True)
        ]

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir()


@pytest.fixture
def store(tmp_path: Path) -> PassageStore:
    return write_store(iter(PASSAGES), tmp_path / "corpus")


@pytest.fixture
def rag(store: PassageStore) -> RetrieveThenRead:
    return RetrieveThenRead(WordRetriever(store.digest), store, reader=FirstWordReader())


def test_an_answer_names_the_passages_it_comes_from(rag: RetrieveThenRead):
    prediction = rag.answer("who is in rome", k=2)
    assert prediction.text == "rome"
    assert [evidence.passage.title for evidence in prediction.evidence] == ["T0", "T2"]
    assert [evidence.retriever_score for evidence in prediction.evidence] == [2.0, 1.0]


def test_many_questions_give_a_list_in_their_order(rag: RetrieveThenRead):
    assert [found.text for found in rag.answer_all(["paris", "hamlet", "rome"])] == ["paris", "who", "rome"]
    assert rag.answer_all([]) == []


def test_missing_hits_are_no_passages(rag: RetrieveThenRead):
    """Guards against row -1 read as the last passage of the corpus."""
    hits = rag.retrieve(["paris", "nothing known"], k=3)
    assert hits.rows.tolist() == [[1, -1, -1], [-1, -1, -1]]
    assert [[hit.passage.id for hit in line] for line in rag.passages(hits)] == [["1"], []]
    assert rag.answer("nothing known").text == ""


@pytest.mark.parametrize(
    ("questions", "k", "message"), [(["a", " "], 5, r"questions \[1\] are empty"), (["a"], 0, "k is 0")]
)
def test_empty_questions_and_k_below_one_are_refused(rag: RetrieveThenRead, questions: list[str], k: int, message: str):
    with pytest.raises(InputError, match=message):
        rag.retrieve(questions, k=k)


def test_one_string_is_not_taken_for_a_list_of_letters(rag: RetrieveThenRead):
    with pytest.raises(InputError, match="list of strings"):
        rag.retrieve("who wrote hamlet")


def test_without_a_reader_passages_are_found_and_answers_refused(store: PassageStore):
    rag = RetrieveThenRead(WordRetriever(store.digest), store)
    assert rag.retrieve(["rome"], k=1).rows.tolist() == [[0]]
    with pytest.raises(ConfigError, match=r"reader=RUN"):
        rag.answer("rome")


def test_a_retriever_of_another_corpus_is_refused(store: PassageStore):
    """Guards against answers read from passages that the retriever never meant."""
    with pytest.raises(IndexMismatch, match="wrong passages"):
        RetrieveThenRead(WordRetriever("0" * 64), store)


def test_a_reader_with_fresh_heads_is_refused(store: PassageStore):
    """Guards against answers at random from reader=minilm, which is meant for training."""
    reader = FirstWordReader()
    reader.is_trained = False  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="fresh weights"):
        RetrieveThenRead(WordRetriever(store.digest), store, reader=reader)


def test_no_index_directory_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="empty list"):
        ragkit.load([])
    with pytest.raises(InputError, match="absent"):
        ragkit.load(tmp_path / "absent")


def test_importing_ragkit_loads_neither_torch_nor_faiss():
    """Guards against seconds of start-up for `ragkit --help`."""
    heavy = "('torch', 'faiss', 'transformers', 'numpy', 'pyarrow')"
    code = f"import sys, ragkit; ragkit.__version__; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_offers_load_and_its_version():
    assert ragkit.load.__module__ == "ragkit.pipeline"
    assert ragkit.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="nothing_such"):
        ragkit.nothing_such  # noqa: B018


class ExplainingWordReader(FirstWordReader):
    """Says that the first passage did it all."""

    explanations = ("attention",)

    def answer(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[ScoredPassage]],
        *,
        explain: str | None = None,
    ) -> list[Prediction]:
        found = super().answer(questions, passages)
        share = 1.0 if explain == "attention" else 0.0
        return [Prediction(one.text, one.score, (Evidence(one.evidence[0].passage, 0.0, share),)) for one in found]


def test_an_answer_is_explained_where_the_reader_can(store: PassageStore):
    """Guards against a wish for an explanation that is dropped on its way to the reader."""
    rag = RetrieveThenRead(WordRetriever(store.digest), store, reader=ExplainingWordReader())
    assert rag.answer("paris", explain="attention").evidence[0].contribution == 1.0
    assert rag.answer("paris").evidence[0].contribution == 0.0


def test_an_explanation_the_reader_cannot_give_is_refused(store: PassageStore):
    """Guards against numbers of another kind shown in the place of those asked for."""
    rag = RetrieveThenRead(WordRetriever(store.digest), store, reader=ExplainingWordReader())
    with pytest.raises(ConfigError, match=r"cannot explain an answer by 'leave_one_out'; choose from \['attention'\]"):
        rag.answer("paris", explain="leave_one_out")
    plain = RetrieveThenRead(WordRetriever(store.digest), store, reader=FirstWordReader())
    with pytest.raises(ConfigError, match="FirstWordReader cannot explain an answer by 'attention'; leave explain out"):
        plain.answer("paris", explain="attention")


class KeepingReader(FirstWordReader):
    """Remembers where it may keep what it computes of passages."""

    folder: Path | None = None

    def keep_contexts(self, folder: Path) -> None:
        self.folder = folder


def test_a_reader_keeps_its_contexts_beside_the_index(tmp_path: Path):
    """Guards against passages computed again for every process, although there is a place for them."""
    reader = KeepingReader()
    keep_contexts(reader, tmp_path)
    assert reader.folder == tmp_path / "kv"
    keep_contexts(FirstWordReader(), tmp_path)  # has nothing to keep
