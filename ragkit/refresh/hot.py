"""A partial refresh: some passages are encoded anew, the vectors of the rest are copied from the live generation."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int64

from ragkit.corpus import PassageStore
from ragkit.failpoints import failpoint
from ragkit.index.vectors import VectorFile, read_rows
from ragkit.retriever import DualEncoder
from ragkit.retriever.dual_encoder import check_finite
from ragkit.retriever.encode import EncodeOptions, Shard, plan_shards
from ragkit.retriever.inference import WINDOW, Inference
from ragkit.seeding import derive_seed

Rows = Int64[np.ndarray, " row"]


@dataclass(frozen=True, slots=True)
class Patch:
    """The rows to encode anew, ascending, and the files of vectors that hold the old ones of all rows."""

    rows: Rows
    old: Sequence[VectorFile]


def hot_rows(
    searched: Int64[np.ndarray, " searched"], *, count: int, share: float, seed: int
) -> Int64[np.ndarray, " hot"]:
    """The rows to encode anew, ascending: the ``searched`` ones and ``share`` of all ``count`` drawn from the others.

    >>> import numpy as np
    >>> hot_rows(np.array([3, 1, 3]), count=6, share=0.5, seed=0).tolist()
    [0, 1, 3, 4, 5]
    """
    is_hot = np.zeros(count, dtype=bool)
    is_hot[searched] = True
    others = np.flatnonzero(~is_hot)
    drawn = np.random.default_rng(derive_seed(seed, "hot")).permutation(others)[: round(share * count)]
    is_hot[drawn] = True
    return np.flatnonzero(is_hot).astype(np.int64)


def encode_hot(
    encoder: DualEncoder, store: PassageStore, folder: Path, *, patch: Patch, options: EncodeOptions
) -> None:
    """Write this process's vector files of ``folder``: the old vectors, with those of the patch's rows made anew.

    Raises:
        NonFiniteVectors: a new vector is not finite; the message names the passage.
    """
    inference = encoder.inference("passage")
    for shard in plan_shards(len(store), folder, shard_rows=options.shard_rows)[options.rank :: options.world]:
        vectors = live_vectors(patch.old, shard.start, shard.stop)
        inside = patch.rows[(patch.rows >= shard.start) & (patch.rows < shard.stop)]
        for at in range(0, len(inside), WINDOW):
            window = inside[at : at + WINDOW]
            vectors[window - shard.start] = _encoded(encoder, inference, store, window, options=options)
            failpoint("refresh.hot_window")
        _write(shard, vectors.astype(options.dtype))


def _encoded(
    encoder: DualEncoder, inference: Inference, store: PassageStore, rows: Rows, *, options: EncodeOptions
) -> Float32[np.ndarray, "passage dim"]:
    passages = store.take(rows)
    found = inference.encode(encoder.passage_texts(passages), batch_tokens=options.batch_tokens)
    check_finite(found.bad.tolist(), passages)
    return found.vectors


def live_vectors(files: Sequence[VectorFile], start: int, stop: int) -> Float32[np.ndarray, "row dim"]:
    """Rows ``start`` to ``stop`` (exclusive) of the matrix that the files make together."""
    parts, first = [np.empty((0, files[0].dim), np.float32)], 0
    for file in files:
        low, high = max(start, first) - first, min(stop, first + file.rows) - first
        if low < high:
            parts.append(read_rows(file, low, high))
        first += file.rows
    return np.concatenate(parts)


def _write(shard: Shard, vectors: Float[np.ndarray, "row dim"]) -> None:
    part = shard.path.with_name(f".{shard.path.name}.{os.getpid()}.part")
    content = io.BytesIO()
    np.save(content, vectors, allow_pickle=False)
    part.write_bytes(content.getbuffer())
    part.replace(shard.path)
