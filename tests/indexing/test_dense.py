"""The generation of a dense index, by whom its vectors were made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragkit.index import IndexSpec, build_index
from ragkit.index.engine import read_faiss
from ragkit.indexing.main import IndexJob
from ragkit.indexing.source import CorpusSource
from ragkit.retriever import DualEncoder
from ragkit.retriever.encode import EncodeOptions, encode_corpus
from ragkit.retriever.open import open_store

pytest.importorskip("faiss")


@pytest.fixture
def encoder(model_dir: Path) -> DualEncoder:
    return DualEncoder.from_pretrained(str(model_dir), device="cpu", dtype="float32")


def index(corpus: Path, retriever: DualEncoder, out: Path, **more: Any) -> None:
    IndexJob(CorpusSource(str(corpus)), retriever, IndexSpec(), out, **more).run()


def test_given_vectors_are_not_said_to_be_encoded(
    corpus_file: Path, encoder: DualEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The summary is what a user keeps of a build: it named the wrong maker of the vectors."""
    index(corpus_file, encoder, tmp_path / "own")
    assert "encoded by" in capsys.readouterr().out
    given = tmp_path / "given.npy"
    np.save(given, np.load(next((tmp_path / "own").rglob("vectors-*.npy"))))
    index(corpus_file, encoder, tmp_path / "index", vectors=given)
    said = capsys.readouterr().out
    assert f"vectors given: {given}, checked against {encoder.reference} (16 dimensions)" in said
    assert "encoded by" not in said


def test_two_processes_make_the_index_that_one_makes(corpus_file: Path, encoder: DualEncoder, tmp_path: Path) -> None:
    """Silent failure: shards in the order of their makers, so that the rows of the index are other passages'."""
    index(corpus_file, encoder, tmp_path / "source")
    store, built, made = open_store(tmp_path / "source"), [], []
    for world in (1, 2):
        folder = tmp_path / f"world{world}"
        for rank in reversed(range(world)):
            options = EncodeOptions(dtype="float32", shard_rows=16, rank=rank, world=world)
            made.append(encode_corpus(encoder, store, folder, options=options))
        build_index(sorted(folder.glob("vectors-*.npy")), IndexSpec(dtype="float32"), folder)
        built.append(read_faiss(folder / "index.faiss"))
    assert [len(files) for files in made] == [4, 2, 2]  # the control: the work was shared
    queries = encoder.encode_queries(["red fox", "the old river", "north stone hill"])
    (one_scores, one_rows), (two_scores, two_rows) = (found.search(queries, 60) for found in built)
    np.testing.assert_array_equal(one_rows, two_rows)
    np.testing.assert_array_equal(one_scores, two_scores)
    wanted = queries @ encoder.encode_passages(store.take(range(60))).T
    np.testing.assert_allclose(np.take_along_axis(wanted, two_rows, axis=1), two_scores, rtol=1e-4, atol=1e-5)
