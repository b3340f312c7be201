"""The next generation of an index whose encoder has changed: encoded aside, built, sealed; switching is another step.

A refreshed generation also holds the encoder that made it (``encoder/``) and ``refresh.json``, so it opens by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from ragkit.corpus import PassageStore
from ragkit.errors import IndexMismatch
from ragkit.failpoints import failpoint
from ragkit.index import (
    EncoderInfo,
    FaissIndex,
    IndexSpec,
    IndexWriter,
    Manifest,
    VectorInfo,
    build_index,
    new_origin,
)
from ragkit.index.engine import read_faiss, set_search_parameters
from ragkit.index.generation import is_disk_full
from ragkit.index.vectors import VectorFile, vector_headers
from ragkit.refresh.hot import Patch, encode_hot
from ragkit.retriever import DualEncoder
from ragkit.retriever.digest import encoder_digest
from ragkit.retriever.encode import EncodeOptions, encode_corpus, plan_shards
from ragkit.text.models import quiet

SNAPSHOT = "encoder"
RECORD = "refresh.json"
ROWS = "rows.npy"

Rows = Int64[np.ndarray, " row"]


@dataclass(frozen=True, slots=True)
class RefreshJob:
    """A refresh that began after ``update`` optimizer updates.

    ``scope`` is "all" (every passage is encoded), "hot" (those of some rows, the rest copied) or "linked" (none: the
    passage tower is as it was). Files of vectors hold ``shard_rows`` passages each, so that several processes can
    share the work. ``reference`` names the encoder to people.
    """

    index_dir: Path
    update: int
    scope: str = "all"
    shard_rows: int = 16384
    reference: str = ""


def passage_digest(encoder: DualEncoder) -> str:
    """Sha256 (hex) of all that decides the vectors of passages: another query tower leaves it as it is."""
    return encoder_digest(encoder.passage_tower, encoder.passage_tower, encoder.options)


def read_record(folder: Path) -> dict[str, Any]:
    """What ``refresh.json`` says of the generation in ``folder``; empty for one that no refresh made."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def live_passages(folder: Path, encoder: DualEncoder) -> str:
    """:func:`passage_digest` of what made the generation in ``folder``; empty where that cannot be known.

    A first generation has no record. Where its encoder had one tower for both sides, the encoder's digest is that of
    its passages, also for an ``encoder`` whose query tower has since become one of its own.
    """
    found = read_record(folder).get("passages")
    if found is not None:
        return str(found)
    made_by, own = Manifest.load(folder).encoder, passage_digest(encoder)
    return own if made_by is not None and made_by.digest in {own, encoder.digest} else ""


class NextGeneration:
    """The generation after the live one, about to be made by ``encoder`` as it is now.

    :meth:`begin` (one process), :meth:`encode` (every process its share), :meth:`seal` (one process, when all have
    encoded); then ``IndexWriter.make_live``. The caller holds the lock of the index directory.
    """

    def __init__(self, job: RefreshJob, encoder: DualEncoder, store: PassageStore) -> None:
        self.job, self.encoder, self.store = job, encoder, store
        self.writer = IndexWriter(job.index_dir)
        if self.writer.live is None:
            raise IndexMismatch(f"{job.index_dir} has no live generation to refresh; build one: ragkit index out=...")
        self.live = self.writer.live
        self.manifest = Manifest.load(self.live)
        self.folder = self.writer.folder
        self.digest = encoder.digest  # reads every weight, so only once
        self.spec = _spec(self.manifest, job.index_dir)

    @staticmethod
    def place(index_dir: Path) -> Path:
        """The folder that the next generation of ``index_dir`` is made in."""
        return IndexWriter(index_dir).folder

    def plan(self, rows: Rows | None = None) -> dict[str, Any]:
        """What decides the content, as JSON: an unfinished generation of the same plan is gone on with."""
        hashed = "" if rows is None else hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()
        job = {key: value for key, value in asdict(self.job).items() if key not in {"index_dir", "reference"}}
        return {
            **job,
            "encoder": self.digest,
            "computed_in": self._computed_in,
            "corpus": self.store.digest,
            "live": self.manifest.origin.generation,
            "spec": asdict(self.spec),
            "rows": hashed,
        }

    def begin(self, rows: Rows | None = None) -> None:
        """Make the folder and put the encoder into it; ``rows`` are the hot ones, ascending, where the scope is hot."""
        itemsize = np.dtype(self.spec.dtype).itemsize
        needed = self.manifest.count * self.encoder.dim * (itemsize + 4)
        with self.disk_errors():
            self.writer.begin(self.plan(rows), bytes_needed=needed)
            if not (self.folder / SNAPSHOT / "modules.json").is_file():  # it is put in place whole
                with quiet():  # a progress bar at every refresh is too much
                    self.encoder.save_pretrained(self.folder / SNAPSHOT)
            if rows is not None:
                np.save(self.folder / ROWS, rows)
        failpoint("refresh.begun")

    def encode(self, *, rank: int = 0, world: int = 1) -> None:
        """Write this process's share of the vector files; finished ones of the same encoder are kept.

        Raises:
            NonFiniteVectors: the encoder's vectors are not finite; the message names the passages.
        """
        with self.disk_errors():
            if self.job.scope == "linked":
                if rank == 0:
                    _link(self.live, self.manifest, self.folder)
                return
            options = EncodeOptions(dtype=self.spec.dtype, shard_rows=self.job.shard_rows, rank=rank, world=world)
            if self.job.scope == "hot":
                rows = np.load(self.folder / ROWS, allow_pickle=False)
                patch = Patch(rows, self._live_files())
                encode_hot(self.encoder, self.store, self.folder, patch=patch, options=options)
            else:
                encode_corpus(self.encoder, self.store, self.folder, options=options)
        failpoint("refresh.encoded")

    def is_encoded(self) -> bool:
        """Whether the vector files of all processes are there, and what is written after them."""
        last = [path.with_suffix(".json") if self.job.scope == "all" else path for path in self._files()]
        return all(path.is_file() for path in last)

    def seal(self) -> Manifest:
        """Build the index over the vectors, write record and manifest, fsync and verify; the manifest."""
        with self.disk_errors():
            for partial in self.folder.glob(".*.part"):  # what a killed process was writing
                partial.unlink()
            info = self._build()
            (self.folder / RECORD).write_text(json.dumps(self.record(), indent=1) + "\n", encoding="utf-8")
            snapshot = {"model": str((self.folder / SNAPSHOT).resolve()), "options": self.encoder.options.to_dict()}
            made_by = EncoderInfo(
                self.job.reference or self.encoder.reference, self._vectors_digest(), self._computed_in, snapshot
            )
            return self.writer.seal(
                Manifest(
                    kind=self.manifest.kind,
                    count=self.manifest.count,
                    parameters=self.manifest.parameters,
                    vectors=info,
                    encoder=made_by,
                    corpus_digest=self.store.digest,
                    origin=new_origin(self.writer.number),
                    files={},
                )
            )

    def open_sealed(self) -> FaissIndex:
        """The sealed generation, searchable though it is not live."""
        index = read_faiss(self.folder / "index.faiss")
        set_search_parameters(index, self.spec.search)
        return FaissIndex(index, Manifest.load(self.folder), self.folder)

    def record(self) -> dict[str, Any]:
        """What ``refresh.json`` says: the update, the scope, passages encoded, digests of the weights that did it."""
        encoded = {"all": self.manifest.count, "linked": 0}.get(self.job.scope)
        if encoded is None:
            encoded = len(np.load(self.folder / ROWS, mmap_mode="r", allow_pickle=False))
        # vectors of several encoders are those of no passage tower
        passages = "" if self.job.scope == "hot" else passage_digest(self.encoder)
        found = {"update": self.job.update, "scope": self.job.scope, "encoded": encoded}
        return {**found, "encoder": self.digest, "passages": passages}

    @contextmanager
    def disk_errors(self) -> Iterator[None]:
        """A full disk inside the block removes the unfinished generation and is a DiskFull that says so."""
        try:
            yield
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise self.writer.disk_full() from error

    @property
    def _computed_in(self) -> str:
        return str(self.encoder.compute_dtype).removeprefix("torch.")

    def _files(self) -> list[Path]:
        if self.job.scope == "linked":
            return [self.folder / file.path.name for file in self._live_files()]
        return [shard.path for shard in plan_shards(len(self.store), self.folder, shard_rows=self.job.shard_rows)]

    def _live_files(self) -> list[VectorFile]:
        return vector_headers(
            [self.live / name for name in sorted(self.manifest.files) if name.startswith("vectors") and ".npy" in name]
        )

    def _build(self) -> VectorInfo:
        if self.job.scope == "linked" and self.manifest.vectors is not None:
            return self.manifest.vectors
        return build_index(
            self._files(), self.spec, self.folder, name_rows=lambda rows: "passages " + ", ".join(self.store.ids(rows))
        )

    def _vectors_digest(self) -> str:
        """The encoder's digest; for vectors of several encoders a digest that no encoder has."""
        if self.job.scope != "hot":
            return self.digest
        before = self.manifest.encoder.digest if self.manifest.encoder else ""
        mixed = [b"ragkit vectors of several encoders\n", before.encode(), self.digest.encode()]
        return hashlib.sha256(b"".join(mixed) + (self.folder / ROWS).read_bytes()).hexdigest()


def _spec(manifest: Manifest, index_dir: Path) -> IndexSpec:
    if manifest.vectors is None:
        raise IndexMismatch(
            f"{index_dir} is a {manifest.kind} index: it has no vectors to refresh; build a dense one: "
            "ragkit index retriever=minilm out=OTHER_DIR ..."
        )
    parameters: Mapping[str, Any] = manifest.parameters
    return IndexSpec(manifest.kind, manifest.vectors.metric, manifest.vectors.dtype, **parameters)


def _link(live: Path, manifest: Manifest, folder: Path) -> None:
    """Hard links to the vectors and the index of the live generation."""
    for name in manifest.files:
        is_content = name == "index.faiss" or (name.startswith("vectors") and name.endswith(".npy"))
        if is_content and not (folder / name).exists():
            os.link(live / name, folder / name)
