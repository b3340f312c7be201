"""Finding rows by passage id without the ids in memory: sorted 64-bit hashes, memory-mapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt64

HASHES, ROWS = "ids.hash.npy", "ids.row.npy"


def hash_id(passage_id: str) -> int:
    """64-bit hash of an id's UTF-8 bytes, the same on every machine."""
    return int.from_bytes(blake2b(passage_id.encode(), digest_size=8).digest(), "little")


def write_ids(hashes: UInt64[np.ndarray, " row"], folder: Path) -> None:
    """Write the hashes in sorted order, and the row of each, for :func:`find_rows`; equal hashes stay in row order."""
    order = np.argsort(hashes, kind="stable")
    np.save(folder / HASHES, hashes[order])
    np.save(folder / ROWS, order.astype(np.int64, copy=False))


def find_rows(
    ids: Sequence[str],
    *,
    hashes: UInt64[np.ndarray, " row"],
    rows: Int64[np.ndarray, " row"],
    read_ids: Callable[[Int64[np.ndarray, " candidate"]], list[str]],
) -> Int64[np.ndarray, " id"]:
    """The row of every id, -1 where there is none; ``read_ids`` gives the ids of rows, to tell equal hashes apart."""
    wanted = np.fromiter((hash_id(passage_id) for passage_id in ids), dtype=np.uint64, count=len(ids))
    first, last = np.searchsorted(hashes, wanted, side="left"), np.searchsorted(hashes, wanted, side="right")
    counts = last - first
    places = np.repeat(first, counts) + _within(counts)
    candidates = rows[places]
    owner = np.repeat(np.arange(len(ids)), counts)
    found = np.full(len(ids), -1, dtype=np.int64)
    for which, row, passage_id in zip(owner.tolist(), candidates.tolist(), read_ids(candidates), strict=True):
        if found[which] < 0 and passage_id == ids[which]:
            found[which] = row
    return found


def _within(counts: np.ndarray) -> np.ndarray:
    """0, 1, ... within every run: [2, 0, 3] gives [0, 1, 0, 1, 2]."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    within: np.ndarray = np.arange(total) - np.repeat(ends - counts, counts)
    return within


def duplicate_rows(
    hashes: UInt64[np.ndarray, " row"],
    rows: Int64[np.ndarray, " row"],
    read_ids: Callable[[Int64[np.ndarray, " candidate"]], list[str]],
) -> Iterator[tuple[str, list[int]]]:
    """Every id that more than one row has, with those rows, from what :func:`write_ids` wrote."""
    same = np.flatnonzero(hashes[1:] == hashes[:-1])
    for _, run in groupby(enumerate(same.tolist()), key=lambda pair: pair[1] - pair[0]):
        places = [place for _, place in run]
        candidates = np.asarray(rows[places[0] : places[-1] + 2])
        holders: dict[str, list[int]] = {}
        for row, passage_id in zip(candidates.tolist(), read_ids(candidates), strict=True):
            holders.setdefault(passage_id, []).append(row)
        yield from ((passage_id, sorted(held)) for passage_id, held in holders.items() if len(held) > 1)
