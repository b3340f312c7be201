"""A refresh of some rows: which, and that the rest are copied."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.index import open_index
from ragkit.index.vectors import vector_headers
from ragkit.refresh.hot import Patch, encode_hot, hot_rows, live_vectors
from ragkit.retriever.encode import EncodeOptions


@settings(max_examples=50, deadline=None)
@given(searched=st.lists(st.integers(0, 99), max_size=60), share=st.floats(0, 1), seed=st.integers(0, 5))
def test_hot_rows_are_the_searched_ones_and_a_share_of_all_drawn_from_the_others(
    searched: list[int], share: float, seed: int
) -> None:
    found = hot_rows(np.array(searched, dtype=np.int64), count=100, share=share, seed=seed)
    others = 100 - len(set(searched))
    assert set(searched) <= set(found.tolist())
    assert len(found) == len(set(found.tolist())) == len(set(searched)) + min(others, round(100 * share))
    assert (np.diff(found) > 0).all()
    again = hot_rows(np.array(searched[::-1], dtype=np.int64), count=100, share=share, seed=seed)
    np.testing.assert_array_equal(found, again)


def test_another_seed_draws_other_rows() -> None:
    """Silent failure: the same passages at every refresh, and the rest never."""
    drawn = [set(hot_rows(np.array([0]), count=1000, share=0.1, seed=seed).tolist()) for seed in range(3)]
    assert len(drawn[0] & drawn[1]) < 40
    assert len(drawn[1] & drawn[2]) < 40


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 3), (2, 7), (3, 5), (6, 9), (0, 9)])
def test_rows_are_read_across_files(tmp_path: Path, start: int, stop: int) -> None:
    whole = np.arange(18, dtype=np.float32).reshape(9, 2)
    for number, part in enumerate(np.split(whole, [3, 5])):
        np.save(tmp_path / f"vectors-{number}.npy", part)
    files = vector_headers(sorted(tmp_path.glob("*.npy")))
    np.testing.assert_array_equal(live_vectors(files, start, stop), whole[start:stop])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_several_processes_write_what_one_does(world: ModuleType, model_dir: Path, tmp_path: Path, dtype: str) -> None:
    encoder = world.load_encoder(model_dir)
    store = world.make_index(tmp_path / "index", encoder)
    old = vector_headers(sorted(open_index(tmp_path / "index").folder.glob("vectors-*.npy")))
    world.nudge(encoder, 0)
    patch = Patch(np.array([0, 7, 24, 25, 59]), old)
    for world_size in (1, 3):
        (tmp_path / f"{world_size}").mkdir()
        for rank in range(world_size):
            options = EncodeOptions(dtype=dtype, shard_rows=25, rank=rank, world=world_size)
            encode_hot(encoder, store, tmp_path / f"{world_size}", patch=patch, options=options)
    one, three = (
        np.concatenate([np.load(file) for file in sorted((tmp_path / f"{number}").glob("*.npy"))]) for number in (1, 3)
    )
    assert one.dtype == dtype
    np.testing.assert_array_equal(one, three)
    np.testing.assert_allclose(one[patch.rows], encoder.encode_passages(store.take(patch.rows)), atol=2e-3)
    assert (np.abs(one - live_vectors(old, 0, 60)).max(axis=1) > 1e-2).nonzero()[0].tolist() == [0, 7, 24, 25, 59]
