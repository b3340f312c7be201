"""`ragkit index`: from a corpus file to an index directory that opens, whatever happened on the way."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ragkit.errors import IndexCorrupt, IndexMismatch, InputError, NonFiniteVectors
from ragkit.index import IndexSpec, Manifest, live_generation, open_index
from ragkit.indexing import dense
from ragkit.indexing.main import IndexJob
from ragkit.indexing.source import CorpusSource
from ragkit.retriever import DualEncoder
from ragkit.retriever.bm25 import BM25
from ragkit.retriever.dense import DenseRetriever
from ragkit.retriever.encode import EncodeOptions
from ragkit.retriever.open import open_retriever, open_store
from ragkit.retriever.rank_bm25 import RankBM25
from ragkit.types import Passage

pytest.importorskip("faiss")


@pytest.fixture
def encoder(model_dir: Path) -> DualEncoder:
    return DualEncoder.from_pretrained(str(model_dir), device="cpu", dtype="float32")


def index(corpus: Path, retriever: DualEncoder | BM25 | RankBM25, out: Path, **more: Any) -> None:
    IndexJob(CorpusSource(str(corpus)), retriever, more.pop("index", IndexSpec()), out, **more).run()


def files(folder: Path) -> dict[str, int]:
    """Every file with its inode: what was left alone is the same file."""
    return {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def test_a_dense_index_opens_with_its_encoder_and_finds_what_brute_force_finds(
    corpus_file: Path, encoder: DualEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Silent failure: rows of the index that are not rows of the store."""
    index(corpus_file, encoder, tmp_path / "index")
    retriever, store = open_retriever(tmp_path / "index", verify="full", device="cpu"), open_store(tmp_path / "index")
    passages = store.take(range(60))
    queries = ["red fox", "the old river", "north stone hill"]
    wanted = encoder.encode_queries(queries) @ encoder.encode_passages(passages).T
    hits = retriever.search(queries, k=60)
    assert retriever.corpus_digest == store.digest
    for query in range(len(queries)):
        np.testing.assert_allclose(wanted[query, hits.rows[query]], hits.scores[query], rtol=1e-4, atol=1e-4)
    said = capsys.readouterr().out
    assert "read 60 passages" in said
    assert "in float32 on cpu (16 dimensions)" in said
    assert "flat index of 60 passages, generation 1; " in said


def test_the_same_command_again_does_nothing(
    corpus_file: Path, encoder: DualEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index(corpus_file, encoder, tmp_path / "index")
    before = files(tmp_path / "index")
    index(corpus_file, encoder, tmp_path / "index")
    assert files(tmp_path / "index") == before
    assert "is up to date: flat index of 60 passages, generation 1; nothing was done" in capsys.readouterr().out


def test_another_kind_is_refused_until_overwrite_and_then_takes_the_same_vectors(
    corpus_file: Path, encoder: DualEncoder, tmp_path: Path
) -> None:
    """Silent failure: an hour of encoding is thrown away without a question, or done twice."""
    out = tmp_path / "index"
    index(corpus_file, encoder, out)
    before = files(out)
    with pytest.raises(IndexMismatch, match=r"kind: there flat, asked for ivf[\s\S]*overwrite=true"):
        index(corpus_file, encoder, out, index=IndexSpec("ivf"))
    assert files(out) == before
    index(corpus_file, encoder, out, index=IndexSpec("ivf"), overwrite=True)
    found = open_index(out, verify="full")
    assert (found.manifest.kind, found.generation) == ("ivf", 2)
    name = next(path.name for path in found.folder.glob("vectors-*.npy"))
    assert (found.folder / name).samefile(out / "g000001" / name)


def test_other_passages_are_refused_until_overwrite(corpus_file: Path, encoder: DualEncoder, tmp_path: Path) -> None:
    out = tmp_path / "index"
    index(corpus_file, encoder, out)
    first = open_store(out).digest
    corpus_file.write_text(corpus_file.read_text() + "p99\tthe new dog\tnew\n")
    with pytest.raises(IndexMismatch, match=rf"corpus: there {first[:12]}\.\.\., asked for"):
        index(corpus_file, encoder, out)
    assert open_store(out, verify="full").digest == first
    index(corpus_file, encoder, out, overwrite=True)
    assert len(open_store(out, verify="full")) == len(open_index(out)) == 61
    assert not (out / "corpus.new").exists()


@pytest.mark.parametrize(("made", "kind"), [(BM25, "bm25"), (RankBM25, "rank_bm25")])
def test_a_bm25_index_lives_in_the_same_layout(corpus_file: Path, tmp_path: Path, made: type, kind: str) -> None:
    out = tmp_path / "index"
    index(corpus_file, made(), out)
    retriever = open_retriever(out, verify="full")
    assert isinstance(retriever, made)
    assert retriever.corpus_digest == open_store(out).digest
    assert Manifest.load(live_generation(out)).kind == kind
    assert (retriever.search(["fox"], k=3).rows == made().fit(open_store(out)).search(["fox"], k=3).rows).all()
    with pytest.raises(IndexMismatch, match=f"is a {kind} index and holds no vectors"):
        open_index(out)
    before = files(out)
    index(corpus_file, made(), out)
    assert files(out) == before
    with pytest.raises(IndexMismatch, match=r"parameters.k1: there 0.9, asked for 2.0"):
        index(corpus_file, made(k1=2.0), out)


def test_malformed_rows_are_an_error_or_are_counted_and_reported(
    corpus_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault 12."""
    lines = corpus_file.read_text().splitlines()
    lines[6] = "only one column"
    corpus_file.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"psgs\.tsv:7: "):
        index(corpus_file, BM25(), tmp_path / "index")
    assert not [path for path in (tmp_path / "index").rglob("*") if path.is_file()]
    index(corpus_file, BM25(), tmp_path / "index", on_error="skip")
    said = capsys.readouterr().out
    assert "read 59 passages; skipped 1 of 60 rows" in said
    assert "psgs.tsv:7" in said


def test_passages_whose_vectors_are_not_finite_are_named(
    corpus_file: Path, encoder: DualEncoder, tmp_path: Path
) -> None:
    """Fault 10. Silent failure: a bfloat16 overflow makes some passages impossible to find."""
    with torch.no_grad():
        weight = next(p for name, p in encoder.named_parameters() if "word_embeddings" in name)
        weight[5] = float("nan")  # the token "red"
    with pytest.raises(NonFiniteVectors, match="p0"):
        index(corpus_file, encoder, tmp_path / "index")
    with pytest.raises(IndexCorrupt, match="unfinished build"):
        open_index(tmp_path / "index")


def test_a_folder_with_other_things_in_it_is_left_alone(corpus_file: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    with pytest.raises(InputError, match="exists and is not an index"):
        index(corpus_file, BM25(), tmp_path / "thesis", overwrite=True)
    assert list(files(tmp_path / "thesis")) == ["chapter.tex"]


@pytest.mark.parametrize("damage", ["index.faiss", "vectors-*.npy", "CURRENT", "manifest.json"])
def test_overwrite_mends_a_damaged_index(corpus_file: Path, encoder: DualEncoder, tmp_path: Path, damage: str) -> None:
    """Faults 5 and 6. Silent failure: the remedy of the error message fails, or links the damaged vectors again."""
    out = tmp_path / "index"
    index(corpus_file, encoder, out)
    path = next(out.rglob(damage))
    tail = b"\0\0\0" if "vectors" in damage else b""  # of its old size, so that only the sum can tell
    path.write_bytes(path.read_bytes()[:-3] + tail)
    if damage in {"index.faiss", "manifest.json"}:
        with pytest.raises(IndexCorrupt):
            index(corpus_file, encoder, out)
    index(corpus_file, encoder, out, overwrite=True)
    retriever = open_retriever(out, verify="full", device="cpu")
    assert isinstance(retriever, DenseRetriever)
    stored = np.load(next(retriever.index.folder.glob("vectors-*.npy")))
    np.testing.assert_allclose(stored, encoder.encode_passages(open_store(out).take(range(60))), rtol=1e-4, atol=1e-5)


def test_lost_passages_of_an_index_in_order_are_written_again(
    corpus_file: Path, encoder: DualEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "index"
    index(corpus_file, encoder, out)
    next((out / "corpus").glob("*.arrow")).unlink()
    index(corpus_file, encoder, out)
    assert "its damaged passages were written again" in capsys.readouterr().out
    assert len(open_store(out, verify="full")) == 60


KILLED = """
    import sys
    from pathlib import Path
    from ragkit.index import IndexSpec
    from ragkit.indexing.main import IndexJob
    from ragkit.indexing.source import CorpusSource
    from ragkit.retriever import DualEncoder
    corpus, model, out = sys.argv[1:]
    encoder = DualEncoder.from_pretrained(model, device="cpu", dtype="float32")
    IndexJob(CorpusSource(corpus), encoder, IndexSpec(), Path(out), overwrite=True).run()
"""


@pytest.mark.parametrize("failpoint", ["indexing.corpus_stored", "index.before_current"])
def test_a_run_killed_at_any_step_goes_on_with_what_is_finished(
    corpus_file: Path, encoder: DualEncoder, model_dir: Path, tmp_path: Path, failpoint: str
) -> None:
    """Fault 1. Silent failure: the second run starts from nothing, or takes a half-written shard for a whole one."""
    out = tmp_path / "index"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(corpus_file), str(model_dir), str(out)],
        env=os.environ | {"RAGKIT_FAILPOINT": failpoint},
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == -9, done.stderr.decode()
    with pytest.raises(IndexCorrupt, match="unfinished build; run the same ragkit index command again, it resumes"):
        open_retriever(out)
    before = {name: inode for name, inode in files(out).items() if "vectors-" in name and name.endswith(".npy")}
    assert bool(before) == (failpoint != "indexing.corpus_stored")
    index(corpus_file, encoder, out)
    after = files(out)
    assert before.items() <= after.items()
    fresh = tmp_path / "fresh"
    index(corpus_file, encoder, fresh)
    ours, theirs = (np.load(next(folder.rglob("vectors-*.npy"))) for folder in (out, fresh))
    np.testing.assert_array_equal(ours, theirs)
    assert len(open_index(out, verify="full")) == 60


KILLED_ENCODING = """
    import functools, os, signal
    from ragkit.indexing import dense
    from ragkit.retriever import DualEncoder
    dense.EncodeOptions = functools.partial(dense.EncodeOptions, shard_rows=16)
    windows, texts = [], DualEncoder.passage_texts
    def passage_texts(self, passages):
        windows.append(len(passages))
        if len(windows) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return texts(self, passages)
    DualEncoder.passage_texts = passage_texts
"""


def test_a_run_killed_while_encoding_encodes_only_the_rest(
    corpus_file: Path, model_dir: Path, encoder: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 1. Silent failure: hours of finished shards are encoded again, or the third shard is half there."""
    out, script = tmp_path / "index", textwrap.dedent(KILLED_ENCODING) + textwrap.dedent(KILLED)
    words = [sys.executable, "-c", script, str(corpus_file), str(model_dir), str(out)]
    killed = subprocess.run(words, capture_output=True, timeout=240, check=False)
    assert killed.returncode == -9, killed.stderr.decode()
    before = {name: inode for name, inode in files(out).items() if name.endswith(".npy") and "vectors-" in name}
    assert len(before) == 2

    windows: list[int] = []
    texts = DualEncoder.passage_texts

    def counted(self: DualEncoder, passages: Sequence[Passage]) -> list[str]:
        windows.append(len(passages))
        return texts(self, passages)

    monkeypatch.setattr(DualEncoder, "passage_texts", counted)
    monkeypatch.setattr(dense, "EncodeOptions", functools.partial(EncodeOptions, shard_rows=16))
    index(corpus_file, encoder, out)
    assert windows == [16, 12]
    assert before.items() <= files(out).items()
    assert not [name for name in files(out) if ".part" in name or name.endswith("plan.json")]
    assert len(open_index(out, verify="full")) == 60
