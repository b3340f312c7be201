"""From vector files to index.faiss: nothing that is not finite, nothing half written."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from ragkit.errors import ConfigError, NonFiniteVectors
from ragkit.index import IndexSpec, build_index
from ragkit.index import build as building

faiss = pytest.importorskip("faiss")


def save(folder: Path, *arrays: np.ndarray) -> list[Path]:
    paths = [folder / f"vectors-{number:05d}-of-{len(arrays):05d}.npy" for number in range(len(arrays))]
    for path, array in zip(paths, arrays, strict=True):
        np.save(path, array)
    return paths


@pytest.mark.parametrize("kind", ["flat", "ivf", "SQfp16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_named_and_never_added(
    tmp_path: Path, vectors: np.ndarray, kind: str, value: float
) -> None:
    """Fault 10. Silent failure: FAISS accepts NaN, and the search then returns fewer and other hits."""
    vectors[[3, 150], 2] = value
    files = save(tmp_path, vectors[:100], vectors[100:])
    with pytest.raises(NonFiniteVectors, match=r"at rows 3(, 150)?; nothing was indexed"):
        build_index(files, IndexSpec(kind), tmp_path)
    assert not (tmp_path / "index.faiss").exists()


def test_the_caller_can_name_the_passages_of_bad_rows(tmp_path: Path, vectors: np.ndarray) -> None:
    vectors[:7, 0] = np.nan
    with pytest.raises(NonFiniteVectors, match=r"passages p0 p1 p2 p3 p4 and at least 2 more"):
        build_index(
            save(tmp_path, vectors),
            IndexSpec(),
            tmp_path,
            name_rows=lambda rows: "passages " + " ".join(f"p{row}" for row in rows),
        )


def test_zero_vectors_are_counted_and_score_zero_under_cosine(tmp_path: Path, vectors: np.ndarray) -> None:
    """Fault 11."""
    vectors[[5, 9]] = 0
    info = build_index(save(tmp_path, vectors), IndexSpec(metric="cosine"), tmp_path)
    assert (info.zero_vectors, info.dim, info.metric, info.dtype) == (2, 16, "cosine", "float32")
    index = faiss.read_index(str(tmp_path / "index.faiss"))
    assert not index.reconstruct(5).any()
    assert np.linalg.norm(index.reconstruct(6)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (IndexSpec("Nonsense"), "FAISS cannot build 'Nonsense' over 200 vectors of 16 dimensions"),
        (IndexSpec("LSH"), "FAISS cannot build 'LSH'.*by inner product"),
        (IndexSpec("IVF300,Flat"), "FAISS cannot build 'IVF300,Flat' over 200 vectors"),
        (IndexSpec(search="nprobe=4"), "does not fit"),
        (IndexSpec("hnsw", search="nprobe=4"), "does not fit"),
    ],
)
def test_what_faiss_cannot_build_is_a_config_error_and_leaves_nothing(
    tmp_path: Path, vectors: np.ndarray, spec: IndexSpec, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_index(save(tmp_path, vectors), spec, tmp_path)
    assert not (tmp_path / "index.faiss").exists()


def test_the_training_sample_is_spread_over_all_files(tmp_path: Path) -> None:
    """Silent failure: an IVF index trained on the first shard only, whose passages are of one kind."""
    vectors = np.arange(100, dtype=np.float32)[:, None]
    files = building.vector_headers(save(tmp_path, vectors[:30], vectors[30:]))
    sample = building._sample(files, IndexSpec("ivf", train_rows=12))
    np.testing.assert_array_equal(sample[:, 0], [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99])


def test_faiss_on_a_full_disk_becomes_an_error_that_says_so() -> None:
    """Fault 20. FAISS raises a RuntimeError of C++ for a full disk, which nobody would take for one."""
    index = faiss.IndexFlatIP(64)
    index.add(np.ones((5000, 64), np.float32))
    with pytest.raises(OSError, match="FAISS could not write") as caught:
        building._write_any(Path("/dev/full"), index)
    assert caught.value.errno == errno.ENOSPC
