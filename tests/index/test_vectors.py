"""Vector files are read in bounded blocks, and a damaged one is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ragkit.errors import IndexCorrupt, InputError
from ragkit.index.vectors import normalized, read_rows, vector_blocks, vector_header, vector_headers


def save(folder: Path, *arrays: np.ndarray) -> list[Path]:
    paths = [folder / f"vectors-{number:05d}-of-{len(arrays):05d}.npy" for number in range(len(arrays))]
    for path, array in zip(paths, arrays, strict=True):
        np.save(path, array)
    return paths


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_blocks_put_together_are_the_files_put_together(tmp_path: Path, vectors: np.ndarray, dtype: type) -> None:
    """Silent failure: a block boundary or an empty file shifts every later row."""
    kept = vectors.astype(dtype)
    files = vector_headers(save(tmp_path, kept[:70], kept[70:70], kept[70:]))
    blocks = list(vector_blocks(files, rows=32))
    assert max(len(block) for block in blocks) == 32
    np.testing.assert_array_equal(np.concatenate(blocks), kept.astype(np.float32))
    np.testing.assert_array_equal(read_rows(files[2], 5, 9), kept[75:79].astype(np.float32))


def test_a_truncated_file_is_named_with_both_sizes(tmp_path: Path, vectors: np.ndarray) -> None:
    """Fault 5. Silent failure: the rest of the shard reads as nothing and the rows after it shift."""
    (path,) = save(tmp_path, vectors)
    whole = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(whole - 4)
    with pytest.raises(IndexCorrupt, match=rf"{path.name} has {whole - 4} bytes where its header says {whole}"):
        vector_header(path)


def test_what_is_not_a_matrix_of_floats_is_refused(tmp_path: Path, vectors: np.ndarray) -> None:
    for array in (vectors.astype(np.float64), vectors[0], np.asfortranarray(vectors), vectors.astype(np.int32)):
        (path,) = save(tmp_path, array)
        with pytest.raises(IndexCorrupt, match="float16 or float32"):
            vector_header(path)
    path.write_bytes(b"not numpy at all")
    with pytest.raises(IndexCorrupt, match=r"no \.npy file"):
        vector_header(path)
    path.unlink()
    with pytest.raises(IndexCorrupt, match="is missing"):
        vector_header(path)


def test_files_of_two_dimensions_do_not_make_one_index(tmp_path: Path, vectors: np.ndarray) -> None:
    """Fault 7. Silent failure: the flat file is written at the dimension of the first."""
    with pytest.raises(InputError, match=r"8 dimensions.*16"):
        vector_headers(save(tmp_path, vectors, vectors[:, :8]))
    with pytest.raises(InputError, match="at least one vector file"):
        vector_headers([])


def test_normalized_vectors_have_length_one_and_zero_stays_zero() -> None:
    """Fault 11. Silent failure: 0 / 0 gives NaN, which FAISS accepts; tiny lengths overflow in float32."""
    unit = normalized(np.array([[3.0, 4.0], [0.0, 0.0], [1e-30, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]], rtol=1e-6)
