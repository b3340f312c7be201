"""The streamed flat file is FAISS's own, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ragkit.index.flat_file import map_flat, write_flat

faiss = pytest.importorskip("faiss")


@pytest.mark.parametrize("count", [0, 1, 200])
def test_the_streamed_file_equals_the_file_that_faiss_writes(tmp_path: Path, vectors: np.ndarray, count: int) -> None:
    """Silent failure: FAISS changes its format and our header is read as something else."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    write_flat(ours, [vectors[:count][at : at + 64] for at in range(0, count, 64)], count=count, dim=16)
    index = faiss.IndexFlatIP(16)
    index.add(vectors[:count])
    faiss.write_index(index, str(theirs))
    assert ours.read_bytes() == theirs.read_bytes()
    np.testing.assert_array_equal(map_flat(ours, count=count, dim=16), vectors[:count])


def test_another_number_of_vectors_than_announced_is_an_error(tmp_path: Path, vectors: np.ndarray) -> None:
    """Silent failure: a header that promises more rows than follow."""
    with pytest.raises(ValueError, match="199 vectors came where 200"):
        write_flat(tmp_path / "flat", [vectors[1:]], count=200, dim=16)
