"""An index of a run's own: hard links to another, so that a refresh leaves the other as it is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ragkit.corpus import link_store
from ragkit.errors import IndexMismatch
from ragkit.index import Manifest, index_writer, live_generation
from ragkit.retriever.open import CORPUS


def clone_index(source: Path, target: Path) -> Path:
    """Make ``target`` an index with the passages and the live generation of ``source``; ``target``.

    No file is copied where both are on one file system. An index that is there already is kept, whatever its
    generation, as a resumed run needs it.

    Raises:
        InputError: there is no index in ``source``, or ``target`` holds something that is not an index.
        IndexMismatch: ``target`` is an index of other passages.
        IndexBusy: another process is writing ``target``.
    """
    live = live_generation(source)
    wanted = Manifest.load(live)
    with index_writer(target) as writer:
        if writer.live is not None:
            found = Manifest.load(writer.live).corpus_digest
            if found != wanted.corpus_digest:
                raise IndexMismatch(
                    f"{target} is an index of other passages than {source}; choose another out=, or delete {target}"
                )
            return target
        if not (target / CORPUS).exists():  # it is put in place whole
            link_store(source / CORPUS, target / CORPUS)
        writer.folder = target / live.name  # it keeps its number, which its manifest states
        _link_all(live, writer.begin(None))
        wanted.verify(writer.folder)
        writer.make_live()
    return target


def _link_all(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)  # what a killed process left may be half a copy
            _link(path, place)


def _link(path: Path, place: Path) -> None:
    try:
        os.link(path, place)
    except OSError:  # another file system, or one without links
        shutil.copyfile(path, place)
