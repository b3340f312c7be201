"""Hits kept on disk: the same passages without a search, and never those of another index, retriever or query."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ragkit.binding import build
from ragkit.config import compose
from ragkit.corpus import PassageStore, write_store
from ragkit.index import live_generation
from ragkit.pipeline import RetrieveThenRead, load
from ragkit.retriever import DualEncoder
from ragkit.retriever.open import open_retriever
from ragkit.training.hits import CachedRetriever, load_cached, retriever_identity, with_hits
from ragkit.types import Example, Passage, SearchResult


class Counting:
    """Row i for the i-th query ever searched, and a list of those queries."""

    corpus_digest = "d"

    def __init__(self) -> None:
        self.searched: list[str] = []

    def search(self, queries: Sequence[str], *, k: int) -> SearchResult:
        first = len(self.searched)
        self.searched.extend(queries)
        rows = np.arange(first, first + len(queries), dtype=np.int64)[:, None] + 100 * np.arange(k)
        return SearchResult(rows, -rows.astype(np.float32) / 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "g000001").mkdir()
    return tmp_path / "hits"


def _cached(folder: Path, key: str = "g000001-a") -> tuple[CachedRetriever, Counting]:
    counting = Counting()
    return CachedRetriever(counting, folder, key=key), counting


def test_a_second_run_searches_nothing_and_finds_the_same(folder: Path):
    """Guards against hits in another order than the queries, and scores rounded on the way."""
    first, searched = _cached(folder)
    found = first.search(["a", "b", "a", "c"], k=3)
    assert searched.searched == ["a", "b", "c"]
    assert found.rows[:, 0].tolist() == [0, 1, 0, 2]
    again, counting = _cached(folder)
    same = again.search(["a", "b", "a", "c"], k=3)
    assert counting.searched == []
    np.testing.assert_array_equal(same.rows, found.rows)
    np.testing.assert_array_equal(same.scores, found.scores)
    mixed = again.search(["c", "d", "b"], k=3)  # the control: what is new is searched
    assert counting.searched == ["d"]
    assert mixed.rows[[0, 2]].tolist() == found.rows[[3, 1]].tolist()
    assert again.search([], k=3).rows.shape == (0, 3)


@pytest.mark.parametrize(("key", "k"), [("g000001-b", 3), ("g000001-a", 2)], ids=["another retriever", "another k"])
def test_hits_are_never_served_to_another(folder: Path, key: str, k: int):
    first, _ = _cached(folder)
    first.search(["x", "a"], k=3)
    other, counting = _cached(folder, key)
    assert other.search(["a"], k=k).rows.shape == (1, k)
    assert counting.searched == ["a"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_file_is_searched_anew_with_a_warning(folder: Path, damage: str, caplog: pytest.LogCaptureFixture):
    """Guards against a flipped bit that trains on another passage: safetensors itself has no checksum."""
    first, _ = _cached(folder)
    first.search(["x", "a"], k=3)
    (file,) = folder.rglob("*.hits")
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes({"flip": bytes(content), "truncate": bytes(content[:-9]), "empty": b""}[damage])
    again, counting = _cached(folder)
    with caplog.at_level(logging.WARNING):
        again.search(["x", "a"], k=3)
    assert counting.searched == ["x", "a"]
    assert "is damaged" in caplog.text
    _cached(folder)[0].search(["x", "a"], k=3)
    assert caplog.text.count("is damaged") == 1


def test_hits_of_generations_that_are_gone_are_deleted(folder: Path):
    """Guards against a cache that grows with every refresh of an index."""
    _cached(folder)[0].search(["a"], k=1)
    (folder.parent / "g000002").mkdir()
    _cached(folder, "g000002-a")[0].search(["a"], k=1)
    assert sorted(path.name for path in folder.iterdir()) == ["g000001-a-k1", "g000002-a-k1"]
    (folder.parent / "g000001").rmdir()
    _cached(folder, "g000002-a")[0].search(["b"], k=1)
    assert [path.name for path in folder.iterdir()] == ["g000002-a-k1"]


def test_a_folder_that_cannot_be_written_costs_only_the_time(folder: Path, caplog: pytest.LogCaptureFixture):
    folder.write_text("a file stands where the folder should")
    retriever, counting = _cached(folder)
    with caplog.at_level(logging.WARNING):
        assert retriever.search(["a"], k=1).rows.tolist() == [[0]]
    assert "cannot keep hits" in caplog.text
    retriever.search(["a"], k=1)
    assert counting.searched == ["a"]  # this process still remembers


@pytest.fixture
def index_dir(tiny, model_dir: Path, tmp_path: Path) -> Path:
    """A dense index of 40 passages."""
    corpus = tmp_path / "corpus.tsv"
    corpus.write_text("id\ttext\ttitle\n" + "\n".join(f"{n}\t{text}\t" for n, text in enumerate(tiny.themed_texts(40))))
    words = [f"corpus={corpus}", f"retriever={model_dir}", "index=flat", f"out={tmp_path / 'index'}"]
    build(compose("index", [*words, "retriever.device=cpu", "retriever.dtype=float32"])).run()
    return tmp_path / "index"


def test_an_index_finds_the_same_passages_with_and_without_its_cache(tiny, index_dir: Path):
    questions = tiny.themed_texts(12, seed=5)
    plain, cached = load(index_dir, device="cpu"), load_cached(index_dir)
    for _ in range(2):
        np.testing.assert_array_equal(cached.retrieve(questions, k=4).rows, plain.retrieve(questions, k=4).rows)
    (folder,) = (index_dir / "hits").iterdir()
    assert folder.name.startswith("g000001-")


def test_the_identity_is_of_the_generation_and_of_the_encoders_weights(tiny, index_dir: Path, tmp_path: Path):
    """Guards against hits of an encoder of other weights, and of an index built anew in the same place."""
    generation = live_generation(index_dir)
    first = retriever_identity(open_retriever(index_dir, device="cpu"), generation)
    assert retriever_identity(open_retriever(index_dir, device="cpu"), generation) == first
    other = DualEncoder.from_pretrained(str(tiny.write_model(tmp_path / "other", dropout=0.0)), device="cpu")
    next(iter(other.parameters())).data[7] += 1
    stale = open_retriever(index_dir, encoder=other, allow_stale=True)
    assert retriever_identity(stale, generation) != first
    copied = shutil.copytree(generation, tmp_path / "copy")
    manifest = copied / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"generation": 1', '"generation": 2'))
    assert retriever_identity(open_retriever(index_dir, device="cpu"), copied) != first


class FirstRows:
    def __init__(self, digest: str) -> None:
        self.corpus_digest = digest

    def search(self, queries: list[str], *, k: int) -> SearchResult:
        rows = np.tile(np.arange(k, dtype=np.int64), (len(queries), 1))
        return SearchResult(rows, np.ones_like(rows, dtype=np.float32))


@pytest.fixture
def store(tmp_path: Path) -> PassageStore:
    return write_store(iter([Passage("7", "the moon", "A"), Passage("8", "gold ship", "B")]), tmp_path / "corpus")


def test_retrieved_passages_join_those_of_the_file_and_ids_get_their_texts(store: PassageStore):
    example = Example("1", "where", ("gold",), (Passage("8", ""),), (Passage("9", ""), Passage("x", "kept")))
    (found,) = with_hits([example], RetrieveThenRead(FirstRows(store.digest), store), k=2)
    assert [hit.passage.id for hit in found.retrieved] == ["7", "8"]
    assert found.positives == (Passage("8", "gold ship", "B"),)
    assert found.hard_negatives == (Passage("9", ""), Passage("x", "kept"))
