"""Writing a store: all of it or nothing, whatever happens meanwhile."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from ragkit.corpus import PassageStore, write, write_store
from ragkit.corpus.store import read_manifest
from ragkit.errors import DuplicateIds, InputError
from ragkit.types import Passage


def passages(count: int, *, words: int = 20) -> Iterator[Passage]:
    return (Passage(id=str(row), text=f"word{row} " * words) for row in range(count))


def test_duplicate_ids_are_listed_with_their_rows_and_nothing_is_left_behind(tmp_path: Path) -> None:
    """FAISS and bm25s take duplicate ids in silence, and evaluation then counts one passage twice."""
    repeated = [*passages(10), Passage("3", "x"), Passage("7", "y"), Passage("3", "z")]
    with pytest.raises(DuplicateIds, match=r"'3' at row 3, row 10, row 12; '7' at row 7, row 11; give every") as caught:
        write_store(repeated, tmp_path / "corpus")
    assert caught.value.duplicates == [("3", [3, 10, 12]), ("7", [7, 11])]
    assert list(tmp_path.iterdir()) == []


def test_only_the_first_few_duplicates_are_shown(tmp_path: Path) -> None:
    """A corpus given twice has millions of them."""
    with pytest.raises(DuplicateIds) as caught:
        write_store([*passages(100), *passages(100)], tmp_path / "corpus")
    assert caught.value.duplicates == [(str(row), [row, row + 100]) for row in range(5)]


def test_a_reader_never_sees_half_a_store(tmp_path: Path) -> None:
    """A source that fails in the middle must leave the folder as it was, here with the store of before."""

    def failing() -> Iterator[Passage]:
        yield from passages(5000)
        raise InputError("row 5000 is malformed")

    before = write_store(passages(3), tmp_path / "corpus")
    for folder in ("corpus", "new"):
        with pytest.raises(InputError, match="row 5000"):
            write_store(failing(), tmp_path / folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    assert PassageStore.open(before.folder, verify="full").digest == before.digest


def test_a_store_is_replaced_only_when_asked_and_its_readers_keep_the_old_one(tmp_path: Path) -> None:
    """Truncating a file that another process has mapped kills that process: the old files must live on, unlinked."""
    old = write_store(passages(10), tmp_path / "corpus")
    with pytest.raises(InputError, match="already holds a passage store; replace it with overwrite=true"):
        write_store(passages(20), old.folder)
    new = write_store(passages(20, words=3), old.folder, overwrite=True)
    assert (len(new), len(PassageStore.open(old.folder))) == (20, 20)
    # the old store is read here for the first time; by its path it would now be the other one
    assert old.take(range(10)) == list(passages(10))
    assert old.rows(["9", "19"]).tolist() == [9, -1]


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    """overwrite=true on the wrong path must not delete a thesis."""
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(InputError, match="is no passage store: it is not replaced"):
        write_store(passages(1), tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()
    (tmp_path / "empty").mkdir()
    assert len(write_store(passages(1), tmp_path / "empty")) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from ragkit.corpus import write, write_store
from ragkit.types import Passage

setattr(write, sys.argv[1], lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
passages = (Passage(id=str(row), text="new") for row in range(9000))
write_store(passages, Path(sys.argv[2]), overwrite=True)
"""


@pytest.mark.parametrize("where", ["write_ids", "_refuse_duplicates", "_put_in_place"])
def test_a_writer_that_is_killed_leaves_the_old_store_and_the_next_one_clears_up(tmp_path: Path, where: str) -> None:
    """fault 1: nothing may look like a store before it is one, and disks must not fill with halves of stores."""
    old = write_store(passages(10), tmp_path / "corpus")
    done = subprocess.run([sys.executable, "-c", KILLED, where, str(old.folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2  # the control: something was indeed left
    assert PassageStore.open(old.folder, verify="full").digest == old.digest
    write_store(passages(20), old.folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_store_set_aside_by_a_process_that_died_gets_its_name_back(tmp_path: Path) -> None:
    """Between its two renames a killed writer leaves no store under the name, only the old one beside it."""
    old = write_store(passages(10), tmp_path / "corpus")
    old.folder.rename(tmp_path / ".corpus.replaced-99999999")
    with pytest.raises(InputError, match="already holds a passage store"):
        write_store(passages(20), old.folder)
    assert PassageStore.open(old.folder).digest == old.digest


def test_a_full_disk_is_said_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ENOSPC in the middle must not leave a folder that looks finished."""

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(write, "sync", full)
    with pytest.raises(InputError, match=r"the disk of .*corpus is full after [\d,]+ bytes; nothing was changed"):
        write_store(passages(10), tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


def test_a_lone_surrogate_is_refused_with_its_passage(tmp_path: Path) -> None:
    """Arrow raises a bare UnicodeEncodeError, which does not say which of a million passages it was."""
    with pytest.raises(InputError, match=r"passage 'b' \(row 1\) holds a lone surrogate.*clean_text"):
        write_store([Passage("a", "x"), Passage("b", "\ud800")], tmp_path / "corpus")


def test_shards_hold_at_most_so_many_rows_and_very_long_passages_close_batches_early(tmp_path: Path) -> None:
    """Arrow's string columns end at 2 GB: a batch must close by bytes too, or long documents overflow it."""
    store = write_store(passages(1000), tmp_path / "corpus", shard_rows=300)
    assert [shard["rows"] for shard in read_manifest(store.folder)["shards"]] == [300, 300, 300, 100]
    long = [Passage(id=str(row), text="x" * (write.BATCH_BYTES // 2 + 1)) for row in range(5)]
    shard = write_store(long, tmp_path / "long")._shards[0]
    assert [batch.num_rows for batch in shard._batches] == [2, 2, 1]
    with pytest.raises(InputError, match="shard_rows is 0"):
        write_store([], tmp_path / "none", shard_rows=0)


def test_memory_while_writing_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """Buffering a shard, or the corpus, would pass every other test and fail at 21 million passages."""
    peaks = []
    for count in (6_000, 18_000):
        tracemalloc.start()
        write_store(passages(count, words=5), tmp_path / str(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 12_000 * 40  # 40 bytes a passage; the passages themselves take over 200 each
