"""Generations: the old one or the new one, whatever kills the writer; never a mix."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from ragkit.errors import DiskFull, IndexBusy, IndexCorrupt, InputError
from ragkit.index import IndexSpec, index_writer, live_generation, open_index, prune, write_index

pytest.importorskip("faiss")


def run(script: str, folder: Path, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(folder)],
        env=os.environ | ({"RAGKIT_FAILPOINT": failpoint} if failpoint else {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


REBUILD = """
    import sys, numpy as np
    from pathlib import Path
    from ragkit.index import IndexSpec, write_index
    write_index(np.full((5, 4), 2, np.float32), IndexSpec(), Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("failpoint", "count"), [("index.sealed", 3), ("index.before_current", 3), ("index.after_current", 5)]
)
def test_a_writer_killed_at_any_step_leaves_the_old_or_the_new_index(
    tmp_path: Path, failpoint: str, count: int
) -> None:
    """Fault 2. Silent failure: CURRENT names a folder that is half written."""
    write_index(np.ones((3, 4), np.float32), IndexSpec(), tmp_path / "index")
    assert run(REBUILD, tmp_path / "index", failpoint).returncode == -9
    assert len(open_index(tmp_path / "index", verify="full")) == count
    assert run(REBUILD, tmp_path / "index").returncode == 0
    assert len(open_index(tmp_path / "index", verify="full")) == 5
    assert not list((tmp_path / "index").rglob("*.tmp"))


def test_a_first_build_that_was_killed_is_an_unfinished_build(tmp_path: Path) -> None:
    """Fault 1."""
    assert run(REBUILD, tmp_path / "index", "index.before_current").returncode == -9
    with pytest.raises(IndexCorrupt, match="unfinished build"):
        open_index(tmp_path / "index")


def test_an_unfinished_build_is_kept_for_its_own_plan_and_deleted_for_another(tmp_path: Path) -> None:
    """Fault 1. Silent failure: shards of another encoder are taken for finished ones."""
    with index_writer(tmp_path / "index") as writer:
        (writer.begin({"encoder": "a"}) / "vectors-00000-of-00002.npy").write_bytes(b"x")
    with index_writer(tmp_path / "index") as writer:
        assert (writer.begin({"encoder": "a"}) / "vectors-00000-of-00002.npy").read_bytes() == b"x"
        assert not (writer.begin({"encoder": "b"}) / "vectors-00000-of-00002.npy").exists()


def test_a_second_writer_fails_fast_and_a_dead_one_holds_no_lock(tmp_path: Path) -> None:
    """Fault 24. Silent failure: two writers in one folder, or a lock file that a crash leaves forever."""
    with (
        index_writer(tmp_path / "index"),
        pytest.raises(IndexBusy, match="another process is writing"),
        index_writer(tmp_path / "index"),
    ):
        pass
    killed = """
        import sys, os, signal
        from pathlib import Path
        from ragkit.index import index_writer
        with index_writer(Path(sys.argv[1])):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run(killed, tmp_path / "index").returncode == -9
    with index_writer(tmp_path / "index") as writer:
        assert writer.number == 1


def test_a_folder_that_is_not_an_index_is_never_touched(tmp_path: Path) -> None:
    """Silent failure: out=~/thesis deletes or mixes with what was there."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not an index"), index_writer(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match="exists and is not an index"), index_writer(tmp_path / "notes.txt"):
        pass


def test_readers_of_an_old_generation_go_on_after_it_is_pruned(tmp_path: Path) -> None:
    """Fault 24. Silent failure: files overwritten under a memory map change its hits or kill the reader."""
    path = tmp_path / "index"
    first = write_index(np.eye(4, dtype=np.float32), IndexSpec(), path)
    before = first.search(np.eye(4, dtype=np.float32), 2)
    for number in (2, 3, 4):
        assert write_index(np.full((5, 4), number, np.float32), IndexSpec(), path).generation == number
    assert sorted(folder.name for folder in path.glob("g*")) == ["g000003", "g000004"]
    np.testing.assert_array_equal(first.search(np.eye(4, dtype=np.float32), 2).rows, before.rows)
    assert [folder.name for folder in prune(path, keep=1)] == ["g000003"]
    assert live_generation(path).name == "g000004"


def test_generations_that_are_spared_stay_and_an_earlier_one_can_be_live_again(tmp_path: Path) -> None:
    """Silent failure: a resumed run finds the vectors of weights that it has not reached yet."""
    path = tmp_path / "index"
    for number in (1, 2, 3):
        write_index(np.full((4 + number, 4), number, np.float32), IndexSpec(), path)
        if number == 2:
            (path / "g000001").rename(path / "kept")  # out of reach of write_index, which spares nothing
    (path / "kept").rename(path / "g000001")
    assert prune(path, keep=1, spare={1}) == [path / "g000002"]
    with index_writer(path) as writer:
        with pytest.raises(IndexCorrupt, match="g000002"):
            writer.go_back(2)
        assert live_generation(path).name == "g000003"
        assert writer.go_back(1) == path / "g000001"
    assert len(open_index(path, verify="full")) == 5
    assert write_index(np.full((9, 4), 9, np.float32), IndexSpec(), path).generation == 2
    assert sorted(folder.name for folder in path.glob("g*")) == ["g000001", "g000002"]


def test_a_disk_that_runs_full_keeps_the_old_index_and_names_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 20. Silent failure: a truncated file goes live, or the half-written one fills the disk for good."""
    path = tmp_path / "index"
    write_index(np.ones((3, 4), np.float32), IndexSpec(), path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ragkit.index.build.write_flat", full)
    with pytest.raises(
        DiskFull, match=r"g000002 needs about 160 bytes and [\d,]+ are free.*generation g000001 is still live"
    ):
        write_index(np.ones((5, 4), np.float32), IndexSpec(), path)
    assert not (path / "g000002").exists()
    assert len(open_index(path)) == 3


def test_a_real_full_disk_is_survived(tmp_path: Path) -> None:
    """Fault 20, on a file system of 1 MB: numpy's short write carries no error number."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        write_index(np.ones((100, 64), np.float32), IndexSpec(), disk / "index")
        with pytest.raises(DiskFull, match="generation g000001 is still live"):
            write_index(np.ones((5000, 64), np.float32), IndexSpec(), disk / "index")
        with pytest.raises(DiskFull):
            write_index(np.ones((3000, 64), np.float32), IndexSpec("HNSW32,Flat"), disk / "index")
        assert len(open_index(disk / "index", verify="full")) == 100
        assert not (disk / "index" / "g000002").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_lost_current_is_mended_by_the_next_build(tmp_path: Path) -> None:
    """Silent failure: the command that the error message recommends fails with the same error."""
    path = tmp_path / "index"
    write_index(np.ones((3, 4), np.float32), IndexSpec(), path)
    (path / "CURRENT").write_text("g00")
    assert write_index(np.ones((5, 4), np.float32), IndexSpec(), path).generation == 2
    assert len(open_index(path)) == 5


def test_a_writer_that_began_nothing_leaves_nothing(tmp_path: Path) -> None:
    """Silent failure: a corpus that cannot be read leaves a folder that passes for an unfinished index."""
    with index_writer(tmp_path / "index"):
        pass
    assert not list((tmp_path / "index").iterdir())
