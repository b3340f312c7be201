"""Vectors that were made elsewhere, taken as the finished shards of a build after a sample of them was checked."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from ragkit.corpus import PassageStore
from ragkit.errors import IndexMismatch, InputError, NonFiniteVectors
from ragkit.retriever.dual_encoder import DualEncoder
from ragkit.retriever.encode import EncodeOptions, Shard, ShardRecord, npy_header, plan_shards, write_record
from ragkit.retriever.inference import WINDOW

log = logging.getLogger(__name__)

SAMPLE = 64  # passages encoded again
TOLERANCE = 0.03  # length of the difference over that of the vector; bfloat16 on two processors gave up to 0.014


def adopt_vectors(
    file: Path, encoder: DualEncoder, store: PassageStore, folder: Path, *, options: EncodeOptions
) -> None:
    """Write ``file`` (a ``.npy`` of ``[passage, dim]`` in the order of the corpus) as the shards of a build.

    A fixed sample of the passages is encoded again and must give the same vectors, so that vectors of another model,
    another template or another order are refused. Blank passages get the zero vector, whatever the file has for them.
    The shards are then finished: :func:`~ragkit.retriever.encode.encode_corpus` keeps them.

    Raises:
        InputError: the file is no such array.
        IndexMismatch: its shape, or the sample, is not what this encoder makes of this corpus.
        NonFiniteVectors: a vector is NaN or infinite; the message names the passages.
    """
    vectors = _open(file)
    if vectors.shape != (len(store), encoder.dim):
        raise IndexMismatch(
            f"{file} holds vectors {list(vectors.shape)}, this corpus and encoder want [{len(store)}, {encoder.dim}]; "
            "give the vectors of this corpus, in its order, or leave vectors= out to encode it"
        )
    _check_sample(file, vectors, encoder, store)
    folder.mkdir(parents=True, exist_ok=True)
    computed_in = str(encoder.compute_dtype).removeprefix("torch.")
    record = ShardRecord(encoder.digest, store.digest, computed_in, 0, 0, options.dtype)
    for shard in plan_shards(len(store), folder, shard_rows=options.shard_rows):
        blank = _blank_rows(shard, encoder, store)
        _write_shard(shard, vectors, store, replace(record, start=shard.start, stop=shard.stop), blank=blank)
    log.info("took the vectors of %s; %d passages encoded again agree", file, min(SAMPLE, len(store)))


def _open(file: Path) -> Float[np.ndarray, "passage dim"]:
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TokenError) as error:  # a header is read as Python
        raise InputError(f"{file} is not a readable .npy file: {error}") from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind != "f":
        raise InputError(f"{file} must hold one floating-point array [passage, dim]")
    return found


def _check_sample(
    file: Path, vectors: Float[np.ndarray, "passage dim"], encoder: DualEncoder, store: PassageStore
) -> None:
    rows = np.unique(np.linspace(0, len(store) - 1, min(SAMPLE, len(store))).astype(np.int64))
    wanted = encoder.encode_passages(store.take(rows))
    rows, wanted = rows[wanted.any(axis=1)], wanted[wanted.any(axis=1)]  # a blank passage's vector is not taken
    distance = np.linalg.norm(vectors[rows].astype(np.float32) - wanted, axis=1)
    wrong: Int64[np.ndarray, " row"] = rows[distance > TOLERANCE * np.linalg.norm(wanted, axis=1).clip(min=1e-6)]
    if len(wrong):
        ids = ", ".join(repr(name) for name in store.ids(wrong[:5]))
        raise IndexMismatch(
            f"{file} was not made by this encoder from this corpus: {len(wrong)} of {len(rows)} passages encoded "
            f"again differ by more than {TOLERANCE:.0%} ({ids}); check model, template, maximum length and order, or "
            "leave vectors= out to encode the corpus"
        )


def _blank_rows(shard: Shard, encoder: DualEncoder, store: PassageStore) -> Int64[np.ndarray, " row"]:
    """The rows of the shard whose passages have no text under the encoder's template."""
    batches = store.batches(WINDOW, start=shard.start, stop=shard.stop)
    texts = (text for batch in batches for text in encoder.passage_texts(batch))
    return np.array([row for row, text in enumerate(texts) if not text.strip()], dtype=np.int64)


def _write_shard(
    shard: Shard,
    vectors: Float[np.ndarray, "passage dim"],
    store: PassageStore,
    record: ShardRecord,
    *,
    blank: Int64[np.ndarray, " row"],
) -> None:
    with np.errstate(over="ignore"):
        data: np.ndarray[Any, Any] = np.array(vectors[shard.start : shard.stop], dtype=record.dtype, order="C")
    data[blank] = 0
    bad = np.flatnonzero(~np.isfinite(data).all(axis=1)) + shard.start
    if len(bad):
        ids = ", ".join(repr(name) for name in store.ids(bad[:5]))
        raise NonFiniteVectors(f"{len(bad)} of the vectors are not finite in {record.dtype}: passages {ids}")
    content = npy_header(len(data), data.shape[1], dtype=record.dtype) + data.tobytes()
    part = shard.path.with_name(f".{shard.path.name}.part")
    part.write_bytes(content)
    part.replace(shard.path)
    write_record(shard, replace(record, sha256=hashlib.sha256(content).hexdigest(), blank=len(blank)))
