"""Processes that each hold a part of an index find what the whole one finds: under torchrun by this file itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ragkit.errors import ConfigError
from ragkit.index import IndexSpec, VectorIndex, open_index, write_index
from ragkit.index.sharded import ShardedIndex

SCRIPT = """
import json, sys, torch
import numpy as np
from pathlib import Path
from ragkit import distributed
from ragkit.index import open_index
from ragkit.index.sharded import ShardedIndex
distributed.start_processes(torch.device("cpu"))
rank, folder, found = distributed.rank(), Path(sys.argv[1]), {}
for name in ("inner_product", "cosine", "tiny"):
    index = ShardedIndex(open_index(folder / name))
    queries = np.load(folder / "queries.npy")[(slice(0, 3), slice(3, 8))[rank]]
    found[name + " rows"] = len(index._part)
    for k in (1, 7, 60):
        hits = index.search(queries, k)
        found[f"{name} {k}"] = [hits.rows.tolist(), hits.scores.tolist()]
(folder / f"{rank}.json").write_text(json.dumps(found))
"""


def vectors(count: int) -> np.ndarray:
    """Vectors of small whole numbers: many ties, also across the parts."""
    return np.random.default_rng(0).integers(-2, 3, (count, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sharded")
    for metric in ("inner_product", "cosine"):
        write_index(vectors(53), IndexSpec(metric=metric), made / metric)
    write_index(vectors(1), IndexSpec(), made / "tiny")
    np.save(made / "queries.npy", vectors(60)[52:])
    return made


def test_parts_find_what_the_whole_index_finds_with_its_scores_and_ties(folder: Path) -> None:
    """Silent failure: rows counted from a part's own beginning, or a tie that depends on the number of processes."""
    (folder / "script.py").write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, str(folder / "script.py"), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parts = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    assert [part["inner_product rows"] for part in parts] == [26, 27]
    queries = np.load(folder / "queries.npy")
    for name in ("inner_product", "cosine", "tiny"):
        for k in (1, 7, 60):
            whole = open_index(folder / name).search(queries, k)
            rows, scores = (np.concatenate([part[f"{name} {k}"][at] for part in parts]) for at in (0, 1))
            np.testing.assert_array_equal(rows, whole.rows)
            np.testing.assert_array_equal(scores.astype(np.float32), whole.scores)


def test_one_process_holds_the_whole(folder: Path) -> None:
    whole = open_index(folder / "cosine")
    index = ShardedIndex(whole)
    assert isinstance(index, VectorIndex)
    assert (len(index), index.generation, index.folder, index.store_digest) == (53, 1, whole.folder, "")
    np.testing.assert_array_equal(index.search(vectors(60)[50:], 9).rows, whole.search(vectors(60)[50:], 9).rows)


def test_only_a_flat_index_is_searched_in_parts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kind hnsw .*index=flat"):
        ShardedIndex(write_index(vectors(20), IndexSpec("hnsw"), tmp_path / "index"))
