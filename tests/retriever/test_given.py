"""Vectors that were made elsewhere are taken only if this encoder would have made them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ragkit.corpus import PassageStore, write_store
from ragkit.errors import IndexMismatch, InputError, NonFiniteVectors
from ragkit.retriever import DualEncoder
from ragkit.retriever.encode import EncodeOptions, encode_corpus
from ragkit.retriever.given import adopt_vectors
from ragkit.types import Passage

OPTIONS = EncodeOptions(dtype="float32", shard_rows=4)


@pytest.fixture
def encoder(bert: str) -> DualEncoder:
    return DualEncoder.from_pretrained(bert, dtype="float32")


@pytest.fixture
def store(tmp_path: Path) -> PassageStore:
    words = ["red", "blue", "green", "cold", "warm", "loud", "quiet", "old", "new", "far"]
    return write_store((Passage(f"p{i}", f"{w} {words[-i]} {w}") for i, w in enumerate(words)), tmp_path / "store")


@pytest.fixture
def vectors(encoder: DualEncoder, store: PassageStore) -> np.ndarray:
    return encoder.encode_passages(store.take(range(len(store))))


def _saved(vectors: np.ndarray, tmp_path: Path) -> Path:
    np.save(tmp_path / "given.npy", vectors)
    return tmp_path / "given.npy"


def test_given_vectors_become_finished_shards(
    encoder: DualEncoder, store: PassageStore, vectors: np.ndarray, tmp_path: Path
) -> None:
    """Were they not recorded as finished, encode_corpus would encode everything again and nobody would notice."""
    adopt_vectors(_saved(vectors, tmp_path), encoder, store, tmp_path / "g", options=OPTIONS)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "g").glob("*.npy")}
    files = encode_corpus(encoder, store, tmp_path / "g", options=OPTIONS)
    assert len(files) == 3
    assert before == {path: path.stat().st_mtime_ns for path in files}
    np.testing.assert_array_equal(np.concatenate([np.load(file) for file in files]), vectors)


def test_blank_passages_get_zero_vectors_whatever_the_file_has(encoder: DualEncoder, tmp_path: Path) -> None:
    """The vector of an empty text is like that of many a short question: it would be found for them."""
    texts = ["red", " ", "green", "cold", "warm", ""]
    store = write_store((Passage(f"p{i}", text) for i, text in enumerate(texts)), tmp_path / "store")
    given = encoder.encode_passages(store.take(range(6)))
    given[[1, 5]] = given[0]  # as a library makes them that encodes the empty string like any other
    adopt_vectors(_saved(given, tmp_path), encoder, store, tmp_path / "g", options=OPTIONS)
    files = encode_corpus(encoder, store, tmp_path / "own", options=OPTIONS)
    for file in files:
        np.testing.assert_array_equal(np.load(tmp_path / "g" / file.name), np.load(file))
        ours, theirs = (
            json.loads((f / file.with_suffix(".json").name).read_text()) for f in (file.parent, tmp_path / "g")
        )
        assert ours["blank"] == theirs["blank"] == 1


def test_vectors_in_another_order_are_refused(
    encoder: DualEncoder, store: PassageStore, vectors: np.ndarray, tmp_path: Path
) -> None:
    """A shifted file answers every query with the neighbour of the right passage."""
    with pytest.raises(IndexMismatch, match=r"10 of 10 passages encoded again differ.*'p0'"):
        adopt_vectors(_saved(np.roll(vectors, 1, axis=0), tmp_path), encoder, store, tmp_path / "g", options=OPTIONS)
    assert not (tmp_path / "g").exists()


def test_vectors_of_another_shape_are_refused(
    encoder: DualEncoder, store: PassageStore, vectors: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(IndexMismatch, match=r"holds vectors \[9, "):
        adopt_vectors(_saved(vectors[:9], tmp_path), encoder, store, tmp_path / "g", options=OPTIONS)


def test_a_vector_that_overflows_the_files_dtype_is_named(
    encoder: DualEncoder, store: PassageStore, vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """float16 ends at 65,504: an infinite vector would vanish from every search."""
    monkeypatch.setattr("ragkit.retriever.given.TOLERANCE", np.inf)  # the sample would catch it before
    wrong = vectors.copy()
    wrong[3] = 1e6
    half = EncodeOptions(dtype="float16", shard_rows=4)
    with pytest.raises(NonFiniteVectors, match="'p3'"):
        adopt_vectors(_saved(wrong, tmp_path), encoder, store, tmp_path / "g", options=half)


def test_a_file_that_is_no_array_is_refused(encoder: DualEncoder, store: PassageStore, tmp_path: Path) -> None:
    (tmp_path / "given.npy").write_bytes(b"\x80\x04]q\x00.")  # a pickle
    with pytest.raises(InputError, match=r"not a readable \.npy"):
        adopt_vectors(tmp_path / "given.npy", encoder, store, tmp_path / "g", options=OPTIONS)
