"""Passages are replaced whole, and a replacement that was killed half-way is undone."""

from __future__ import annotations

from pathlib import Path

from ragkit.corpus import PassageStore, ReadOptions, ReadReport
from ragkit.indexing.staging import adopt_staged, discard_staged, existing_store, recover, stage_corpus


def stage(corpus_file: Path, index_dir: Path) -> PassageStore:
    index_dir.mkdir(exist_ok=True)
    return stage_corpus(str(corpus_file), index_dir, options=ReadOptions(), report=ReadReport())


def test_staged_passages_take_the_place_of_the_old_ones(tmp_path: Path, corpus_file: Path) -> None:
    first = stage(corpus_file, tmp_path / "index")
    adopt_staged(tmp_path / "index")
    corpus_file.write_text(corpus_file.read_text() + "p99\tnew\tnew\n")
    second = stage(corpus_file, tmp_path / "index")
    kept = existing_store(tmp_path / "index", verify="full")
    assert kept is not None
    assert kept.digest == first.digest != second.digest
    adopt_staged(tmp_path / "index")
    assert PassageStore.open(tmp_path / "index" / "corpus").digest == second.digest
    assert [path.name for path in (tmp_path / "index").iterdir()] == ["corpus"]


def test_a_replacement_killed_between_its_two_renames_is_undone(tmp_path: Path, corpus_file: Path) -> None:
    """Silent failure: the passages of the live index lie under another name and the next run deletes them."""
    index_dir = tmp_path / "index"
    first = stage(corpus_file, index_dir)
    adopt_staged(index_dir)
    (index_dir / "corpus").rename(index_dir / "corpus.old")
    stage(corpus_file, index_dir)
    assert existing_store(index_dir, verify="full").digest == first.digest  # type: ignore[union-attr]
    discard_staged(index_dir)
    assert [path.name for path in index_dir.iterdir()] == ["corpus"]


def test_leftovers_of_a_killed_run_are_cleared_away(tmp_path: Path, corpus_file: Path) -> None:
    index_dir = tmp_path / "index"
    stage(corpus_file, index_dir)
    (index_dir / ".corpus.new.unfinished-123").mkdir()
    recover(index_dir)
    assert not list(index_dir.iterdir())


def test_a_damaged_store_counts_as_none(tmp_path: Path, corpus_file: Path) -> None:
    """Silent failure: a truncated Arrow file is kept because its digest is still written beside it."""
    stage(corpus_file, tmp_path / "index")
    adopt_staged(tmp_path / "index")
    shard = next((tmp_path / "index" / "corpus").glob("*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-8])
    assert existing_store(tmp_path / "index", verify="size") is None
    assert existing_store(tmp_path / "nowhere", verify="size") is None
