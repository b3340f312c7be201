"""A passage store that is already there, alone or inside an index directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ragkit.corpus.sources.rows import Row
from ragkit.corpus.store import MANIFEST, PassageStore
from ragkit.corpus.write import sync, written_aside
from ragkit.errors import InputError

_BATCH = 1024


def store_folder(path: Path) -> Path | None:
    """The store at ``path``: the folder itself, or its ``corpus/``; None where there is neither."""
    return next((folder for folder in (path, path / "corpus") if (folder / MANIFEST).is_file()), None)


def read_stored(path: Path) -> Iterator[Row]:
    """The passages of a store in order; ``line`` is the row, from 1. IndexCorrupt where its files were altered."""
    folder = store_folder(path)
    if folder is None:
        raise InputError(f"{path} holds no passage store ({MANIFEST})")
    store = PassageStore.open(folder, verify="full")  # what is made of it would carry the damage on as its own
    passages = (passage for batch in store.batches(_BATCH) for passage in batch)
    return (Row(folder, number, passage) for number, passage in enumerate(passages, start=1))


def link_store(source: Path, folder: Path, *, overwrite: bool = False) -> PassageStore:
    """The same store under another folder, by hard links; copied where the file system has none between the two.

    Nothing is encoded again, the files are shared, and either may be deleted without harm to the other. IndexCorrupt
    where the source's files were altered.
    """
    found = store_folder(source)
    if found is None:
        raise InputError(f"{source} holds no passage store ({MANIFEST})")
    store = PassageStore.open(found, verify="full")
    if folder.exists() and folder.samefile(found):
        return store
    with written_aside(folder, overwrite=overwrite) as aside:
        for file in sorted(found.iterdir()):
            try:
                os.link(file, aside / file.name)
            except OSError:  # another file system, or one without links
                shutil.copyfile(file, aside / file.name)
                sync(aside / file.name)
    return PassageStore.open(folder)
