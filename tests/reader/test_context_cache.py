"""Contexts on disk keep to their bound, and what goes wrong with a file costs that file alone."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ragkit.errors import ConfigError
from ragkit.reader.context_cache import ContextCache


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def test_what_was_kept_is_found_as_it_was_under_both_digests_alone(tmp_path: Path):
    """Guards against entries found by the shortened names of their files."""
    cache, states = ContextCache(tmp_path), torch.randn(2, 3, 2, 5, 4).to(torch.bfloat16)
    model, passage = "a" * 64, "b" * 64
    cache.put(model, passage, states)
    found = ContextCache(tmp_path).get(model, passage)
    assert found is not None
    assert found.equal(states)
    assert cache.get("c" * 64, passage) is None
    assert cache.get(model[:32] + "c" * 32, passage) is None  # the same file name, another model: discarded
    assert entries(tmp_path) == []


@pytest.mark.parametrize("length", [0, 7])
def test_passages_of_any_length_are_kept(tmp_path: Path, length: int):
    cache = ContextCache(tmp_path)
    cache.put("m", "p", torch.ones(2, 1, 1, length, 4))
    found = cache.get("m", "p")
    assert found is not None
    assert found.shape == (2, 1, 1, length, 4)


def test_a_process_killed_while_it_writes_leaves_no_entry(tmp_path: Path):
    code = (
        "import torch; from pathlib import Path; from ragkit.reader.context_cache import ContextCache; "
        f"ContextCache(Path({str(tmp_path)!r})).put('m', 'p', torch.zeros(2, 1, 1, 3, 4))"
    )
    environment = {**os.environ, "RAGKIT_FAILPOINT": "context-written"}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert killed.returncode == -9
    assert entries(tmp_path) == []
    cache = ContextCache(tmp_path)
    assert cache.get("m", "p") is None
    cache.put("m", "p", torch.zeros(2, 1, 1, 3, 4))
    assert len(entries(tmp_path)) == 1


def test_the_cache_keeps_to_its_bound_and_what_was_used_last(tmp_path: Path):
    states = torch.zeros(2, 1, 1, 100, 4)
    size = 3600
    cache = ContextCache(tmp_path, max_bytes=size * 3)
    for row in range(3):
        cache.put("m" * 64, f"{row}" * 64, states)
        os.utime(entries(tmp_path)[-1], (row, row))
    assert cache.get("m" * 64, "0" * 64) is not None  # used now
    cache.put("m" * 64, "3" * 64, states)
    kept = {file.stem[0] for file in entries(tmp_path)}
    assert "1" not in kept
    assert {"0", "3"} <= kept
    assert sum(file.stat().st_size for file in entries(tmp_path)) <= size * 3
    with pytest.raises(ConfigError, match="max_bytes is 0"):
        ContextCache(tmp_path, max_bytes=0)


def test_what_a_dead_process_left_behind_goes_and_a_full_disk_costs_no_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    left = tmp_path / "m" / ".x.1.unfinished"
    left.parent.mkdir()
    left.write_bytes(b"")
    os.utime(left, (time.time() - 7200,) * 2)
    cache = ContextCache(tmp_path)
    cache.put("m", "p", torch.zeros(2, 1, 1, 1, 4))
    assert not left.exists()
    blocked = ContextCache(tmp_path / "file")
    (tmp_path / "file").write_text("no folder")
    with caplog.at_level(logging.WARNING):
        blocked.put("m", "p", torch.zeros(2, 1, 1, 1, 4))
    assert "could not be kept" in caplog.text
    assert blocked.get("m", "p") is None
