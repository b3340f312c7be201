"""Passages found for questions to train on, kept on disk: the next run of the same index searches nothing.

``INDEX_DIR/hits/GENERATION-IDENTITY/`` holds what one retriever found in one generation, a file for each batch of
questions that was searched. The identity covers the generation's manifest, the retriever's digest and the number of
passages; a query is looked up in it by its sha256. Generations that are gone take their hits with them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from ragkit.corpus import PassageStore
from ragkit.errors import ConfigError
from ragkit.index import live_generation
from ragkit.pipeline import RetrieveThenRead, load
from ragkit.progress import progress
from ragkit.retriever.bm25 import BM25
from ragkit.retriever.dense import DenseRetriever
from ragkit.retriever.protocol import Retriever
from ragkit.retriever.rank_bm25 import RankBM25
from ragkit.types import Example, Passage, SearchResult

from .data import DataFiles, load_questions

log = logging.getLogger(__name__)

FOLDER = "hits"

_SEARCHED = 256  # questions searched at once
_SHA256 = 32  # bytes
_Hits = tuple[np.ndarray, np.ndarray]  # the rows and scores of one query, [k] each


def load_cached(index_dir: Path) -> RetrieveThenRead:
    """As :func:`ragkit.pipeline.load` without a reader, with hits remembered in ``index_dir/hits``."""
    rag = load(index_dir)
    folder = _generation(index_dir, rag.retriever)
    identity = retriever_identity(rag.retriever, folder)
    return RetrieveThenRead(
        CachedRetriever(rag.retriever, index_dir / FOLDER, key=f"{folder.name}-{identity}"), rag.store
    )


def retriever_identity(retriever: Retriever, generation: Path) -> str:
    """Sha256, 16 characters, of the generation's manifest and of what turns a query into hits in it."""
    total = hashlib.sha256((generation / "manifest.json").read_bytes())
    if isinstance(retriever, DenseRetriever):
        total.update(retriever.encoder.digest.encode())
    elif isinstance(retriever, BM25 | RankBM25):
        total.update(json.dumps(retriever.parameters, sort_keys=True).encode())
    return total.hexdigest()[:16]


def _generation(index_dir: Path, retriever: Retriever) -> Path:
    """The generation that the retriever searches; another may have become the live one since it was opened."""
    return retriever.index.folder if isinstance(retriever, DenseRetriever) else live_generation(index_dir)


class CachedRetriever:
    """A retriever that remembers in ``folder / f"{key}-k{k}"`` what it found.

    ``key`` begins with the generation's name; hits of generations that are no longer beside ``folder`` are deleted.
    One process searches at a time, so that the others of a run find its hits instead of searching too. A file that
    was damaged is searched anew; a folder that cannot be written only costs the time.
    """

    def __init__(self, retriever: Retriever, folder: Path, *, key: str) -> None:
        self.retriever, self.folder, self.key = retriever, folder, key
        self._known: dict[int, dict[bytes, _Hits]] = {}

    @property
    def corpus_digest(self) -> str:
        """That of the retriever."""
        return self.retriever.corpus_digest

    def search(self, queries: Sequence[str], *, k: int) -> SearchResult:
        """What the retriever finds; only queries that were not searched before are searched."""
        keys = [hashlib.sha256(query.encode("utf-8", "surrogatepass")).digest() for query in queries]
        known = self._known.setdefault(k, {})
        if any(key not in known for key in keys):
            with self._locked(k) as folder:
                known.update(_read_all(folder))  # what others found meanwhile
                new = {key: query for key, query in zip(keys, queries, strict=True) if key not in known}
                if new:
                    found = self.retriever.search(list(new.values()), k=k)
                    known.update(zip(new, zip(found.rows, found.scores, strict=True), strict=True))
                    _write(folder, list(new), found)
        lines = [known[key] for key in keys]
        rows = np.array([rows for rows, _ in lines], np.int64).reshape(len(lines), k)
        return SearchResult(rows, np.array([scores for _, scores in lines], np.float32).reshape(rows.shape))

    @contextlib.contextmanager
    def _locked(self, k: int) -> Iterator[Path | None]:
        """The folder, held by this process alone until it is done or dies; None where it cannot be written."""
        folder = self.folder / f"{self.key}-k{k}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            log.warning("cannot keep hits in %s (%s); searching without", folder, error)
            yield None
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            _prune(self.folder)
            yield folder
        finally:
            os.close(handle)


def _prune(folder: Path) -> None:
    """Delete the hits of generations that are gone."""
    for old in folder.iterdir():
        if not (folder.parent / old.name.partition("-")[0]).is_dir():
            shutil.rmtree(old, ignore_errors=True)


def _read_all(folder: Path | None) -> dict[bytes, _Hits]:
    found: dict[bytes, _Hits] = {}
    for file in sorted(folder.glob("*.hits")) if folder else ():
        arrays = _read(file)
        if arrays is None:
            log.warning("%s is damaged; its questions are searched again", file)
            file.unlink(missing_ok=True)
            continue
        for key, rows, scores in zip(arrays["queries"], arrays["rows"], arrays["scores"], strict=True):
            found[key.tobytes()] = (rows, scores)
    return found


def _read(file: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a file; None where its content is not that of its sha256."""
    try:
        content = file.read_bytes()
        is_whole = hashlib.sha256(content[_SHA256:]).digest() == content[:_SHA256]
        return load_arrays(content[_SHA256:]) if is_whole else None
    except (OSError, SafetensorError):  # OSError: another process has just deleted it with its generation
        return None


def _write(folder: Path | None, keys: Sequence[bytes], hits: SearchResult) -> None:
    """One more file, whole or not there: sha256 of the rest, then safetensors of queries, rows and scores."""
    if folder is None:
        return
    queries: UInt8[np.ndarray, "query byte"] = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), _SHA256)
    content = save_arrays({"queries": queries, "rows": hits.rows, "scores": hits.scores})
    digest = hashlib.sha256(content)
    aside = folder / ".unfinished"
    try:
        aside.write_bytes(digest.digest() + content)
        aside.replace(folder / f"{digest.hexdigest()[:16]}.hits")
    except OSError as error:  # a full disk must not end a training run that can search
        log.warning("cannot keep hits in %s (%s)", folder, error)


def load_with_hits(data: DataFiles, *, index_dir: Path | None, k: int) -> tuple[list[Example], list[Example]]:
    """The questions to train on and those to evaluate on; with ``index_dir``, each with the ``k`` passages it finds.

    ConfigError where no file to train on is named.
    """
    if data.train is None:
        raise ConfigError("this experiment needs questions: data.train=FILE")
    train, dev = load_questions(data.train), load_questions(data.dev)
    if index_dir is None:
        return train, dev
    rag = load_cached(index_dir)
    return with_hits(train, rag, k=k), with_hits(dev, rag, k=k)


def with_hits(examples: Sequence[Example], rag: RetrieveThenRead, *, k: int) -> list[Example]:
    """The examples with the ``k`` passages found for each after those their file brought; their own get their texts.

    A passage that a file names by id alone gets title and text from the store, or is left without text.
    """
    found: list[Example] = []
    for begin in progress(range(0, len(examples), _SEARCHED), description="retrieving passages"):
        part = examples[begin : begin + _SEARCHED]
        hits = rag.passages(rag.retrieve([example.question for example in part], k=k))
        found.extend(
            replace(
                example,
                positives=_with_texts(example.positives, rag.store),
                hard_negatives=_with_texts(example.hard_negatives, rag.store),
                retrieved=(*example.retrieved, *line),
            )
            for example, line in zip(part, hits, strict=True)
        )
    return found


def _with_texts(passages: Sequence[Passage], store: PassageStore) -> tuple[Passage, ...]:
    if all(passage.text for passage in passages):
        return tuple(passages)
    rows = store.rows([passage.id for passage in passages])
    known = {int(row): passage for row, passage in zip(rows[rows >= 0], store.take(rows[rows >= 0]), strict=True)}
    return tuple(
        passage if passage.text else known.get(int(row), passage) for passage, row in zip(passages, rows, strict=True)
    )
