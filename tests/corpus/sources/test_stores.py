"""A store as a source."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ragkit.corpus import PassageStore, link_store, write_store
from ragkit.corpus.sources.stores import read_stored, store_folder
from ragkit.errors import IndexCorrupt, InputError
from ragkit.types import Passage

PASSAGES = [Passage(str(row), f"text {row}") for row in range(3000)]


def test_a_store_is_read_in_order_alone_or_in_an_index_directory(tmp_path: Path) -> None:
    """The rows of an index point into this order."""
    write_store(PASSAGES, tmp_path / "corpus")
    assert [row.value for row in read_stored(tmp_path)] == PASSAGES
    assert store_folder(tmp_path / "corpus") == store_folder(tmp_path) == tmp_path / "corpus"
    with pytest.raises(InputError, match="holds no passage store"):
        read_stored(tmp_path / "absent")


def test_a_linked_store_outlives_the_first(tmp_path: Path) -> None:
    """A symbolic link would lead nowhere once the first index is deleted."""
    first = write_store(PASSAGES, tmp_path / "first")
    linked = link_store(tmp_path / "first", tmp_path / "deep" / "second")
    assert link_store(linked.folder, linked.folder).digest == first.digest
    for file in first.folder.iterdir():
        file.unlink()
    assert PassageStore.open(linked.folder, verify="full").take([2999]) == PASSAGES[-1:]


@pytest.mark.parametrize("take", [lambda source, _: read_stored(source), link_store])
def test_an_altered_store_is_not_taken_over(tmp_path: Path, take: Callable[[Path, Path], object]) -> None:
    """Fault 6: a flipped byte changes no size, and the new index would give its digest as that of the damaged text."""
    first = write_store(PASSAGES, tmp_path / "first")
    (shard,) = first.folder.glob("*.arrow")
    content = bytearray(shard.read_bytes())
    content[content.index(b"text 1234")] ^= 1
    shard.write_bytes(content)
    PassageStore.open(first.folder)  # the control: by size alone it opens
    with pytest.raises(IndexCorrupt):
        take(tmp_path / "first", tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_a_store_is_copied_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hard links do not cross file systems, and an index may well be on another disk."""

    def no_link(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    first = write_store(PASSAGES, tmp_path / "first")
    monkeypatch.setattr(os, "link", no_link)
    copied = link_store(tmp_path / "first", tmp_path / "second")
    assert PassageStore.open(copied.folder, verify="full").digest == first.digest
    assert (copied.folder / "store.json").stat().st_nlink == 1
