"""Opening an index directory: the right kind of retriever, over the right passages, with the right encoder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float32

from ragkit.corpus import write_store
from ragkit.errors import IndexCorrupt, IndexMismatch, InputError
from ragkit.index import EncoderInfo, IndexSpec, Manifest, index_writer, new_origin, write_index
from ragkit.retriever.bm25 import BM25
from ragkit.retriever.dense import DenseRetriever
from ragkit.retriever.open import open_retriever, open_store
from ragkit.types import Passage

pytest.importorskip("faiss")

PASSAGES = [Passage("x", "the red fox"), Passage("y", "a grey stone"), Passage("z", "an old fox")]


class Letters:
    """Encodes a text as the counts of its letters f, s and o."""

    dim = 3

    def __init__(self, digest: str = "e" * 64) -> None:
        self.digest = digest

    def encode_queries(self, texts: Sequence[str]) -> Float32[np.ndarray, "query dim"]:
        return np.array([[text.count(letter) for letter in "fso"] for text in texts], np.float32)


@pytest.fixture
def dense_dir(tmp_path: Path) -> Path:
    """A dense index of three passages by an encoder that no manifest can load."""
    store = write_store(PASSAGES, tmp_path / "store")
    vectors = Letters().encode_queries([passage.text for passage in PASSAGES])
    made_by = EncoderInfo("letters", "e" * 64, "float32")
    write_index(vectors, IndexSpec(), tmp_path / "index", encoder=made_by, corpus_digest=store.digest)
    (tmp_path / "store").rename(tmp_path / "index" / "corpus")
    return tmp_path / "index"


@pytest.fixture
def bm25_dir(tmp_path: Path) -> Path:
    """A BM25 index of the same passages."""
    store = write_store(PASSAGES, tmp_path / "store")
    with index_writer(tmp_path / "index") as writer:
        BM25().fit(store).save(writer.begin(None) / "bm25")
        writer.seal(
            Manifest(
                kind="bm25",
                count=3,
                parameters={},
                vectors=None,
                encoder=None,
                corpus_digest=store.digest,
                origin=new_origin(1),
                files={},
            )
        )
        writer.make_live()
    (tmp_path / "store").rename(tmp_path / "index" / "corpus")
    return tmp_path / "index"


def test_a_dense_directory_gives_a_dense_retriever(dense_dir: Path) -> None:
    retriever = open_retriever(dense_dir, encoder=Letters(), verify="full")
    assert isinstance(retriever, DenseRetriever)
    assert retriever.search(["s"], k=1).rows.tolist() == [[1]]
    assert retriever.corpus_digest == open_store(dense_dir, verify="full").digest


def test_a_bm25_directory_gives_bm25(bm25_dir: Path) -> None:
    retriever = open_retriever(bm25_dir, verify="full")
    assert isinstance(retriever, BM25)
    assert sorted(retriever.search(["fox"], k=3).rows[0].tolist()) == [-1, 0, 2]


def test_the_encoder_given_must_be_that_of_the_index(dense_dir: Path) -> None:
    """Fault 8."""
    with pytest.raises(IndexMismatch, match=r"encoder eeeeeeeeeeee\.\.\. .*needs ffffffffffff.*overwrite=true"):
        open_retriever(dense_dir, encoder=Letters("f" * 64))
    stale = open_retriever(dense_dir, encoder=Letters("f" * 64), allow_stale=True)
    assert isinstance(stale, DenseRetriever)
    assert stale.is_stale


def test_an_encoder_that_the_manifest_cannot_load_is_asked_for(dense_dir: Path) -> None:
    with pytest.raises(IndexMismatch, match=r"does not say how to load its encoder.*encoder="):
        open_retriever(dense_dir)


@pytest.mark.parametrize("others", [PASSAGES[:2], [*PASSAGES[:2], Passage("z", "another fox")]], ids=["fewer", "other"])
def test_passages_of_another_corpus_are_refused(dense_dir: Path, others: list[Passage]) -> None:
    """Fault 9. Silent failure: every hit shows the text of another passage."""
    write_store(others, dense_dir / "corpus", overwrite=True)
    message = r"has 3 rows and .* has 2 passages" if len(others) == 2 else r"has corpus .*, this run needs"
    for opened in (lambda: open_store(dense_dir), lambda: open_retriever(dense_dir, encoder=Letters())):
        with pytest.raises(IndexMismatch, match=message):
            opened()


def test_a_damaged_bm25_file_is_refused(bm25_dir: Path) -> None:
    """Faults 5 and 6: the manifest covers the files of BM25 too."""
    path = bm25_dir / "g000001" / "bm25" / "data.csc.index.npy"
    raw = bytearray(path.read_bytes())
    raw[-2] ^= 0x40
    path.write_bytes(raw)
    with pytest.raises(IndexCorrupt, match=r"data\.csc\.index\.npy was altered"):
        open_retriever(bm25_dir, verify="full")
    path.write_bytes(raw[:-4])
    with pytest.raises(IndexCorrupt, match=r"data\.csc\.index\.npy has \d+ bytes"):
        open_retriever(bm25_dir)


def test_no_index_and_no_passages_are_said(tmp_path: Path, dense_dir: Path) -> None:
    with pytest.raises(InputError, match=r"there is no index in .*nowhere"):
        open_retriever(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"there is no index in .*nowhere"):
        open_store(tmp_path / "nowhere")
    (dense_dir / "corpus" / "store.json").unlink()
    with pytest.raises(IndexCorrupt):
        open_store(dense_dir)
    manifest = dense_dir / "g000001" / "manifest.json"
    assert json.loads(manifest.read_text())["encoder"]["reference"] == "letters"
