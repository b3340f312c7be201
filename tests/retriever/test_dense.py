"""Dense retrieval: the encoder must be the index's own, and a blank query finds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float32

from ragkit.errors import IndexMismatch, InputError
from ragkit.index import EncoderInfo, FaissIndex, IndexSpec, write_index
from ragkit.retriever.dense import DenseRetriever
from ragkit.retriever.protocol import Retriever

pytest.importorskip("faiss")


class Letters:
    """Encodes a text as the counts of its letters a, b and c."""

    def __init__(self, digest: str = "e" * 64, letters: str = "abc") -> None:
        self.digest, self.letters = digest, letters
        self.dim = len(letters)

    def encode_queries(self, texts: Sequence[str]) -> Float32[np.ndarray, "query dim"]:
        return np.array([[text.count(letter) for letter in self.letters] for text in texts], np.float32)


@pytest.fixture
def index(tmp_path: Path) -> FaissIndex:
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1]], np.float32)
    made_by = EncoderInfo("letters", "e" * 64, "float32")
    return write_index(vectors, IndexSpec(), tmp_path / "index", encoder=made_by, corpus_digest="c" * 64)


def test_it_finds_what_the_vectors_say(index: FaissIndex) -> None:
    retriever = DenseRetriever(Letters(), index)
    hits = retriever.search(["bb", "a", "cb"], k=2)
    assert hits.rows.tolist() == [[1, 2], [0, 1], [2, 1]]
    assert hits.scores.tolist() == [[2, 2], [1, 0], [2, 1]]
    assert isinstance(retriever, Retriever)
    assert retriever.corpus_digest == "c" * 64
    assert not retriever.is_stale


def test_a_blank_query_has_no_hits_and_no_queries_give_no_lines(index: FaissIndex) -> None:
    """Fault 18. Silent failure: the zero vector ties with everything and returns rows 0, 1, 2."""
    retriever = DenseRetriever(Letters(), index)
    hits = retriever.search(["  ", "b"], k=2)
    assert hits.rows.tolist() == [[-1, -1], [1, 2]]
    assert np.isneginf(hits.scores[0]).all()
    assert retriever.search([], k=2).rows.shape == (0, 2)


def test_one_string_is_not_taken_for_a_list_of_letters(index: FaissIndex) -> None:
    with pytest.raises(InputError, match=r"got the one string 'abc': write \[query\]"):
        DenseRetriever(Letters(), index).search("abc", k=1)


def test_another_encoder_is_refused_unless_staleness_is_asked_for(index: FaissIndex) -> None:
    """Fault 8. Silent failure: vectors of two models are compared and every score is noise."""
    with pytest.raises(IndexMismatch, match=r"encoder eeeeeeeeeeee\.\.\. \(made by letters\), this run needs ffff"):
        DenseRetriever(Letters("f" * 64), index)
    stale = DenseRetriever(Letters("f" * 64), index, allow_stale=True)
    assert stale.is_stale
    assert stale.search(["a"], k=1).rows.tolist() == [[0]]


def test_another_dimension_is_refused_even_where_staleness_is_allowed(index: FaissIndex) -> None:
    """Fault 7."""
    with pytest.raises(IndexMismatch, match="dimension 3, this run needs 4"):
        DenseRetriever(Letters(letters="abcd"), index, allow_stale=True)
