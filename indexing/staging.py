"""The passages of an index directory: read aside, compared with those there, and put in their place at the end."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from ragkit.corpus import PassageStore, ReadOptions, ReadReport, store_corpus
from ragkit.errors import IndexCorrupt
from ragkit.retriever.open import CORPUS

STAGED, REPLACED = "corpus.new", "corpus.old"


def stage_corpus(source: str, index_dir: Path, *, options: ReadOptions, report: ReadReport) -> PassageStore:
    """Read ``source`` into a store beside ``DIR/corpus``, after clearing away what a killed run left."""
    recover(index_dir)
    return store_corpus(source, index_dir / STAGED, options=options, report=report)


def recover(index_dir: Path) -> None:
    """Undo a replacement of the passages that was killed half-way, and delete leftovers."""
    if (index_dir / REPLACED).exists() and not (index_dir / CORPUS).exists():
        (index_dir / REPLACED).rename(index_dir / CORPUS)
    for leftover in [index_dir / STAGED, index_dir / REPLACED, *index_dir.glob(".corpus.*")]:
        shutil.rmtree(leftover, ignore_errors=True)


def existing_store(index_dir: Path, *, verify: Literal["size", "full"]) -> PassageStore | None:
    """The store in ``DIR/corpus``; None where there is none, or a damaged one that is to be replaced."""
    if not (index_dir / CORPUS).exists():
        return None
    try:
        return PassageStore.open(index_dir / CORPUS, verify=verify)
    except IndexCorrupt:
        return None


def discard_staged(index_dir: Path) -> None:
    """Delete the staged passages."""
    shutil.rmtree(index_dir / STAGED, ignore_errors=True)


def adopt_staged(index_dir: Path) -> None:
    """Put the staged passages into ``DIR/corpus``, in two renames; :func:`recover` knows the state between them."""
    if (index_dir / CORPUS).exists():
        (index_dir / CORPUS).rename(index_dir / REPLACED)
    (index_dir / STAGED).rename(index_dir / CORPUS)
    shutil.rmtree(index_dir / REPLACED, ignore_errors=True)
