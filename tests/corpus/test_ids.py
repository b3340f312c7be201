"""The id lookup, where two ids share a hash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ragkit.corpus import ids
from ragkit.corpus.ids import duplicate_rows, find_rows, hash_id, write_ids


def lookup(names: list[str], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    write_ids(np.array([ids.hash_id(name) for name in names], dtype=np.uint64), folder)
    return np.load(folder / ids.HASHES), np.load(folder / ids.ROWS)


def test_ids_whose_hashes_are_equal_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 21 million ids two 64-bit hashes may meet: the lookup must compare the ids themselves."""
    monkeypatch.setattr(ids, "hash_id", len)
    names = ["aa", "b", "cc", "d", "ee"]
    hashes, rows = lookup(names, tmp_path)
    found = find_rows(
        ["ee", "d", "cc", "zz", "aa"], hashes=hashes, rows=rows, read_ids=lambda at: [names[r] for r in at]
    )
    assert found.tolist() == [4, 3, 2, -1, 0]
    assert list(duplicate_rows(hashes, rows, lambda at: [names[r] for r in at])) == []


def test_every_duplicate_is_found_with_its_rows(tmp_path: Path) -> None:
    """A pairwise comparison of neighbours loses the third row of the same id."""
    names = ["x", "a", "y", "a", "x", "a", "z"]
    hashes, rows = lookup(names, tmp_path)
    found = dict(duplicate_rows(hashes, rows, lambda at: [names[r] for r in at]))
    assert found == {"a": [1, 3, 5], "x": [0, 4]}


def test_the_hash_is_the_same_on_every_machine() -> None:
    """Python's own hash changes with every process; a store is opened by another one."""
    assert (hash_id("p1"), hash_id("é")) == (10506498227197777640, 3394012004367669963)
