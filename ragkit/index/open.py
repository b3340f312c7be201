"""Open the live generation of an index directory, or write a new one from vectors."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ragkit.errors import IndexCorrupt, IndexMismatch
from ragkit.index.build import FAISS_NAME, build_index
from ragkit.index.engine import load_faiss, read_faiss, set_search_parameters
from ragkit.index.faiss_index import FaissIndex
from ragkit.index.generation import index_writer, live_generation
from ragkit.index.manifest import EncoderInfo, Manifest, Origin, Verify
from ragkit.index.spec import IndexSpec


def open_index(index_dir: Path | str, *, verify: Verify = "size", search: str | None = None) -> FaissIndex:
    """The live generation of an index directory, ready to search.

    ``verify`` "size" compares the sizes of all files with the manifest, "full" their sha256. ``search`` replaces the
    search parameters the index was built with (``"nprobe=128"``).

    Raises:
        InputError: there is no index.
        IndexCorrupt: a file is missing, truncated, altered, or the build did not finish.
        IndexMismatch: the index has no vectors (BM25), or its FAISS file another metric or dimension than its manifest.
    """
    folder = live_generation(Path(index_dir))
    manifest = Manifest.load(folder)
    manifest.verify(folder, level=verify)
    if manifest.vectors is None:
        raise IndexMismatch(
            f"{index_dir} is a {manifest.kind} index and holds no vectors; open it with "
            "ragkit.retriever.open_retriever, or build a dense one: ragkit index retriever=minilm out=OTHER_DIR ..."
        )
    if FAISS_NAME not in manifest.files:
        raise IndexCorrupt(
            f"{folder / 'manifest.json'} lists no {FAISS_NAME}; build it again: ragkit index overwrite=true"
        )
    index = read_faiss(folder / FAISS_NAME)
    _agree(index, manifest, folder)
    set_search_parameters(index, manifest.parameters.get("search", "") if search is None else search)
    return FaissIndex(index, manifest, folder)


def write_index(
    vectors: Float[np.ndarray, "row dim"],
    spec: IndexSpec,
    index_dir: Path,
    *,
    encoder: EncoderInfo | None = None,
    corpus_digest: str = "",
) -> FaissIndex:
    """A new live generation of ``index_dir`` over vectors in memory, opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index = write_index(np.eye(3, dtype=np.float32), IndexSpec(), Path(folder) / "index")
    ...     index.search(np.array([[0.0, 2.0, 1.0]], dtype=np.float32), k=2).rows.tolist()
    [[1, 2]]
    """
    with index_writer(index_dir) as writer:
        folder = writer.begin(None, bytes_needed=2 * vectors.nbytes)
        path = folder / "vectors-00000-of-00001.npy"
        np.save(path, np.ascontiguousarray(vectors, dtype=spec.dtype))
        info = build_index([path], spec, folder)
        writer.seal(
            Manifest(
                kind=spec.kind,
                count=len(vectors),
                parameters=spec.parameters,
                vectors=info,
                encoder=encoder,
                corpus_digest=corpus_digest,
                origin=new_origin(writer.number),
                files={},
            )
        )
        writer.make_live()
    return open_index(index_dir)


def new_origin(generation: int) -> Origin:
    """The origin of a generation made now, by this ragkit."""
    return Origin(generation, datetime.now(UTC).isoformat(timespec="seconds"), version("ragkit"))


def _agree(index: Any, manifest: Manifest, folder: Path) -> None:
    """Refuse an index.faiss that is whole but not the one the manifest describes."""
    faiss, vectors = load_faiss(), manifest.vectors
    dim, count, metric = index.d, index.ntotal, index.metric_type
    path = folder / FAISS_NAME
    if metric != faiss.METRIC_INNER_PRODUCT:
        raise IndexMismatch(
            f"{path} compares by FAISS metric {metric}, ragkit's indexes by inner product "
            f"({faiss.METRIC_INNER_PRODUCT}); build it again: ragkit index overwrite=true ..."
        )
    if vectors is not None and dim != vectors.dim:
        raise IndexMismatch(
            f"{path} has {dim} dimensions, its manifest says {vectors.dim}; build it again: "
            "ragkit index overwrite=true ..."
        )
    if count != manifest.count:
        raise IndexCorrupt(
            f"{path} holds {count} vectors, its manifest says {manifest.count}; build it again: "
            "ragkit index overwrite=true ..."
        )
