"""Opening an index directory: damage and mismatch are refused with what was found, wanted, and the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ragkit.errors import IndexCorrupt, IndexMismatch, InputError
from ragkit.index import IndexSpec, open_index, write_index

faiss = pytest.importorskip("faiss")


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x40
    path.write_bytes(raw)


def cut(path: Path, by: int = 1) -> None:
    path.write_bytes(path.read_bytes()[:-by])


@pytest.mark.parametrize("name", ["index.faiss", "vectors-00000-of-00001.npy"])
def test_a_truncated_or_missing_file_is_refused_at_once(index_dir: Path, name: str) -> None:
    """Fault 5. Silent failure: a memory map over a file that is too short kills the process with SIGBUS."""
    file = index_dir / "g000001" / name
    size = file.stat().st_size
    cut(file)
    with pytest.raises(IndexCorrupt, match=rf"{name} has {size - 1} bytes, the manifest wants {size}.*overwrite=true"):
        open_index(index_dir)
    file.unlink()
    with pytest.raises(IndexCorrupt, match=rf"{name} is missing"):
        open_index(index_dir)


def test_a_flipped_byte_is_found_by_the_full_check(index_dir: Path, vectors: np.ndarray) -> None:
    """Fault 6. Silent failure: FAISS has no checksum; a flipped exponent gives one passage a score of 1e30."""
    flip(index_dir / "g000001" / "index.faiss", 1003)
    with pytest.raises(IndexCorrupt, match=r"index\.faiss was altered: its sha256"):
        open_index(index_dir, verify="full")
    assert len(open_index(index_dir).search(vectors[:1], 1)) == 1  # the fast check cannot see it: control


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ("dim", 24, IndexMismatch, r"has 16 dimensions, its manifest says 24; build it again"),
        ("count", 199, IndexCorrupt, r"holds 200 vectors, its manifest says 199"),
        ("version", 9, IndexMismatch, r"version 9, this ragkit reads"),
        ("files", {}, IndexCorrupt, r"lists no index\.faiss"),
    ],
)
def test_a_manifest_of_another_index_is_refused(
    index_dir: Path, key: str, value: object, error: type[Exception], message: str
) -> None:
    """Faults 7 and 9: files that are whole but do not belong together."""
    path = index_dir / "g000001" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(error, match=message):
        open_index(index_dir)


def test_an_l2_index_in_the_place_of_ours_is_refused(tmp_path: Path, vectors: np.ndarray) -> None:
    """Property 4: the metric is stored and checked. Silent failure: smaller-is-better distances sorted as scores."""

    def as_l2(folder: Path) -> None:
        index = faiss.IndexFlatL2(16)
        index.add(vectors)
        faiss.write_index(index, str(folder / "index.faiss"))

    _replace(tmp_path, vectors, as_l2)
    with pytest.raises(IndexMismatch, match=r"compares by FAISS metric 1, ragkit's indexes by inner product \(0\)"):
        open_index(tmp_path / "index")


def test_faiss_itself_opens_a_flat_index_and_finds_the_same(index_dir: Path, vectors: np.ndarray) -> None:
    """Silent failure: an index.faiss that only ragkit can read."""
    theirs = faiss.read_index(str(index_dir / "g000001" / "index.faiss"))
    scores, rows = theirs.search(vectors[:20], 5)
    ours = open_index(index_dir).search(vectors[:20], 5)
    np.testing.assert_array_equal(ours.rows, rows)
    np.testing.assert_allclose(ours.scores, scores, rtol=1e-5, atol=1e-5)


def test_no_index_an_unfinished_one_and_a_lost_generation_are_told_apart(tmp_path: Path, index_dir: Path) -> None:
    with pytest.raises(InputError, match=r"there is no index in .*nowhere; build one: ragkit index"):
        open_index(tmp_path / "nowhere")
    (index_dir / "CURRENT").write_text("g000009\n")
    with pytest.raises(IndexCorrupt, match=r"CURRENT names the generation 'g000009', which is not there"):
        open_index(index_dir)
    (index_dir / "CURRENT").write_text("../../etc\n")
    with pytest.raises(IndexCorrupt, match="which is not there"):
        open_index(index_dir)
    (index_dir / "CURRENT").unlink()
    with pytest.raises(IndexCorrupt, match=r"unfinished build; run the same ragkit index command again"):
        open_index(index_dir)


def test_float16_vector_files_are_half_the_size_and_round_by_less_than_a_thousandth(
    tmp_path: Path, vectors: np.ndarray
) -> None:
    full = write_index(vectors, IndexSpec(), tmp_path / "full")
    half = write_index(vectors, IndexSpec(dtype="float16"), tmp_path / "half")
    name = "vectors-00000-of-00001.npy"
    assert np.load(half.folder / name).dtype == np.float16
    ours, theirs = half.search(vectors, 1), full.search(vectors, 1)
    assert (ours.rows == theirs.rows).all()
    assert 0 < np.abs(ours.scores - theirs.scores).max() < 1e-3 * np.abs(theirs.scores).max()


def _replace(tmp_path: Path, vectors: np.ndarray, write: Callable[[Path], None]) -> None:
    """An index whose index.faiss was made by another program, with a manifest that agrees in size and sum."""
    from ragkit.index.manifest import FileEntry, Manifest, sha256_of

    folder = write_index(vectors, IndexSpec(), tmp_path / "index").folder
    write(folder)
    data = json.loads((folder / "manifest.json").read_text())
    path = folder / "index.faiss"
    data["files"]["index.faiss"] = {"size": path.stat().st_size, "sha256": sha256_of(path)}
    Manifest.from_json(data).save(folder)
    assert Manifest.load(folder).files["index.faiss"] == FileEntry(path.stat().st_size, sha256_of(path))
