"""Overlap of what an index of earlier weights finds with what the present weights would."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ragkit.index import open_index
from ragkit.refresh import Sample, measure_staleness, overlap


def test_overlap_by_hand() -> None:
    first = np.array([[1, 2, 3], [4, 5, 6], [7, -1, -1], [1, 2, 3]])
    second = np.array([[3, 2, 9], [4, 5, 6], [7, 8, -1], [-1, -1, -1]])
    # 2 of 3, 3 of 3, 1 of 2; the last query finds nothing and says nothing
    assert overlap(first, second) == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert overlap(first[3:], second[3:]) == 1.0


@pytest.mark.parametrize("metric", ["inner_product", "cosine"])
def test_a_pool_of_the_whole_corpus_is_exact_and_a_smaller_one_an_upper_bound(
    world: ModuleType, model_dir: Path, tmp_path: Path, metric: str
) -> None:
    """Silent failure: stale scores beside fresh ones, or a sample on which every overlap is 1."""
    encoder = world.load_encoder(model_dir)
    store = world.make_index(tmp_path / "index", encoder, spec=world.IndexSpec(metric=metric))
    index, queries = open_index(tmp_path / "index"), tuple(world.QUESTIONS[:20])
    assert measure_staleness(encoder, index, store, Sample(queries, k=5, pool=20)).overlap == 1.0
    world.nudge(encoder, 0, size=0.5)
    vectors, fresh = encoder.encode_queries(list(queries)), encoder.encode_passages(store.take(np.arange(60)))
    if metric == "cosine":
        fresh = fresh / np.linalg.norm(fresh, axis=1, keepdims=True)
    wanted = np.argsort(-(vectors @ fresh.T), axis=1, kind="stable")[:, :5]
    exact = overlap(index.search(vectors, 5).rows, wanted)
    whole = measure_staleness(encoder, index, store, Sample(queries, k=5, pool=60))
    part = measure_staleness(encoder, index, store, Sample(queries, k=5, pool=8))
    assert whole.overlap == pytest.approx(exact)
    assert exact < 0.9
    assert exact <= part.overlap <= 1
    assert part.encoded < whole.encoded == 60
