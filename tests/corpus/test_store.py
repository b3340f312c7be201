"""The passage store: what is written comes back by row and by id, and damage never passes for content."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ragkit.corpus import PassageStore, write_store
from ragkit.errors import IndexCorrupt, InputError
from ragkit.types import Passage

PASSAGES = [
    Passage(id=f"p{row}", text=f"text of {row} \U0001f600 שלום", title=f"title {row % 7}") for row in range(1000)
]


@pytest.fixture
def store(tmp_path: Path) -> PassageStore:
    return write_store(PASSAGES, tmp_path / "corpus", shard_rows=300)


def test_take_gives_passages_in_the_order_asked_for_across_shards_and_with_repeats(store: PassageStore) -> None:
    """A gather per shard that forgets to undo its grouping returns the right passages at the wrong places."""
    rows = np.random.default_rng(0).integers(0, 1000, 500)
    assert store.take(rows) == [PASSAGES[row] for row in rows]
    assert store.take([999, 0, 999]) == [PASSAGES[999], PASSAGES[0], PASSAGES[999]]
    assert store.take([]) == []


@pytest.mark.parametrize("row", [-1, 1000])
def test_a_row_outside_the_store_is_named(store: PassageStore, row: int) -> None:
    """Row -1 is a missing hit; numpy's indexing would quietly give the last passage for it."""
    with pytest.raises(InputError, match=rf"row {row} is outside .* 1000 passages"):
        store.take([0, row])


def test_rows_is_the_inverse_of_ids_and_minus_one_for_an_unknown_id(store: PassageStore) -> None:
    """An id that merely hashes near a known one must not be found."""
    rows = [5, 999, 0, 5]
    assert store.rows(store.ids(rows)).tolist() == rows
    assert store.rows(["p1", "no such id", "P1", ""]).tolist() == [1, -1, -1, -1]
    assert store.rows([]).tolist() == []


def test_batches_go_through_the_store_in_order_and_keep_to_their_bounds(store: PassageStore) -> None:
    """A batch that ends at a shard's end instead of its size would shift every batch after it."""
    batches = list(store.batches(64, start=290, stop=500))
    assert [len(batch) for batch in batches] == [64, 64, 64, 18]
    assert [passage for batch in batches for passage in batch] == PASSAGES[290:500]
    assert [passage for batch in store.batches(333) for passage in batch] == PASSAGES
    with pytest.raises(InputError, match="batch size is 0"):
        store.batches(0)


def test_the_digest_is_of_the_ordered_content_and_not_of_the_sharding(store: PassageStore, tmp_path: Path) -> None:
    """An index is tied to its corpus by this digest: a change of a byte, of a border or of the order must move it."""
    assert write_store(PASSAGES, tmp_path / "again", shard_rows=77).digest == store.digest
    assert write_store(PASSAGES[::-1], tmp_path / "reversed").digest != store.digest
    assert write_store(PASSAGES[:-1], tmp_path / "shorter").digest != store.digest
    moved = [Passage("a", title="bc", text="d"), Passage("a", title="b", text="cd")]
    digests = [write_store([passage], tmp_path / str(number)).digest for number, passage in enumerate(moved)]
    assert digests[0] != digests[1]


def test_an_empty_store_opens_and_holds_nothing(tmp_path: Path) -> None:
    """A memory map of no bytes is an error of the system, not of the user."""
    store = write_store([], tmp_path / "corpus")
    assert (len(store), store.rows(["a"]).tolist(), list(store.batches(2))) == (0, [-1], [])


def test_opening_reads_no_passage(store: PassageStore) -> None:
    """Opening 21 million passages must not cost 13 GB of reading: content is wrong here, and size checks pass."""
    shard = store.folder / "passages-00001.arrow"
    shard.write_bytes(b"\0" * shard.stat().st_size)
    opened = PassageStore.open(store.folder)
    assert opened.take([0]) == PASSAGES[:1]
    with pytest.raises(IndexCorrupt, match=r"passages-00001\.arrow is not a readable Arrow file"):
        opened.take([300])


def test_a_store_can_be_sent_to_a_worker_process(store: PassageStore) -> None:
    """Data loaders copy what they iterate over where processes are not forked; Arrow's maps cannot be copied."""
    sent = copy.copy(store)
    assert sent is not store
    assert sent.take([7]) == store.take([7])


def test_an_altered_id_lookup_is_named(store: PassageStore) -> None:
    """numpy's message speaks of magic strings."""
    path = store.folder / "ids.hash.npy"
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(IndexCorrupt, match=r"ids\.hash\.npy is not a readable array"):
        PassageStore.open(store.folder)


def truncate(folder: Path) -> None:
    path = folder / "passages-00000.arrow"
    path.write_bytes(path.read_bytes()[:-100])


def remove(folder: Path) -> None:
    (folder / "ids.row.npy").unlink()


def lose_manifest(folder: Path) -> None:
    (folder / "store.json").unlink()


def break_manifest(folder: Path) -> None:
    path = folder / "store.json"
    path.write_text(path.read_text()[:40])


def change_manifest(field: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "store.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"passages-00000\.arrow has \d+ bytes, \d+ were written"),
        (remove, r"ids\.row\.npy is missing"),
        (lose_manifest, r"there is no store\.json"),
        (break_manifest, r"store\.json is not JSON"),
        (change_manifest("version", 99), "format version 99, this ragkit reads version 1"),
        (change_manifest("format", "other"), "does not describe a passage store"),
        (change_manifest("count", 7), "incomplete or altered"),
    ],
)
def test_damage_is_named_with_the_command_that_mends_it(
    store: PassageStore, damage: Callable[[Path], None], message: str
) -> None:
    """A truncated file under a memory map kills the process with SIGBUS if it is not caught at opening."""
    damage(store.folder)
    with pytest.raises(IndexCorrupt, match=message + r"[\s\S]*ragkit index corpus=FILE out=DIR overwrite=true"):
        PassageStore.open(store.folder)


def test_one_flipped_byte_is_found_by_the_full_check_only(store: PassageStore) -> None:
    """Arrow has no checksum of its own; the control is that the size check, which is fast, does not see it."""
    path = store.folder / "passages-00002.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    PassageStore.open(store.folder, verify="size")
    with pytest.raises(IndexCorrupt, match=r"passages-00002\.arrow has sha256"):
        PassageStore.open(store.folder, verify="full")
