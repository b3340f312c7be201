"""Vectors and index directories that the tests of the index share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ragkit.index import IndexSpec, write_index


@pytest.fixture
def vectors() -> np.ndarray:
    """200 vectors of 16 dimensions."""
    return np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)


@pytest.fixture
def index_dir(tmp_path: Path, vectors: np.ndarray) -> Path:
    """A finished flat index of those vectors."""
    write_index(vectors, IndexSpec(), tmp_path / "index", corpus_digest="c" * 64)
    return tmp_path / "index"
