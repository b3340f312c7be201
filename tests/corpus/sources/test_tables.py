"""Tables of the `datasets` library."""

from __future__ import annotations

from pathlib import Path

import datasets  # type: ignore[import-untyped]
import pytest

from ragkit.corpus import read_corpus
from ragkit.errors import FormatError, InputError
from ragkit.types import Passage

COLUMNS = {"id": ["1", "2"], "title": ["T", "U"], "text": ["a", "b"], "embeddings": [[0.5], [0.25]]}
WANTED = [Passage("1", "a", "T"), Passage("2", "b", "U")]


def test_a_folder_written_by_save_to_disk_is_read_in_order(tmp_path: Path) -> None:
    """wiki_dpr's layout: its vectors come along and are no part of a passage."""
    datasets.Dataset.from_dict(COLUMNS).save_to_disk(str(tmp_path / "one"))
    assert list(read_corpus(tmp_path / "one")) == WANTED


def test_of_several_splits_one_must_be_named(tmp_path: Path) -> None:
    """Taking the first would index `test` or `train` by the alphabet."""
    table = datasets.Dataset.from_dict(COLUMNS)
    datasets.DatasetDict({"train": table}).save_to_disk(str(tmp_path / "single"))
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(str(tmp_path / "both"))
    assert list(read_corpus(tmp_path / "single")) == WANTED
    with pytest.raises(InputError, match=r"has 2 splits; give the folder of one of them: .*both/train"):
        read_corpus(tmp_path / "both")
    assert list(read_corpus(tmp_path / "both" / "test")) == WANTED


def test_a_table_without_text_and_a_damaged_folder_are_refused(tmp_path: Path) -> None:
    """The library's own message for the second is about a schema of Arrow."""
    datasets.Dataset.from_dict({"id": ["1"], "label": [1]}).save_to_disk(str(tmp_path / "labels"))
    with pytest.raises(FormatError, match="no column of text"):
        read_corpus(tmp_path / "labels")
    datasets.Dataset.from_dict(COLUMNS).save_to_disk(str(tmp_path / "damaged"))
    for file in (tmp_path / "damaged").glob("*.arrow"):
        file.unlink()
    with pytest.raises(InputError, match=r"damaged cannot be read by datasets\.load_from_disk"):
        read_corpus(tmp_path / "damaged")


def test_a_name_of_the_hub_that_cannot_be_reached_says_how_to_go_on_without() -> None:
    """Offline is the normal case here; the library's error is a page of HTTP."""
    with pytest.raises(InputError, match=r"data set 'nobody/nothing' cannot be loaded.*save_to_disk"):
        read_corpus("hf:nobody/nothing")


def test_a_name_of_the_hub_carries_its_configuration_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control for the offline test: what reaches the library, and that its rows come back."""
    asked: list[object] = []

    def load(name: str, config: str | None, **options: object) -> datasets.IterableDataset:
        asked.extend([name, config, options])
        return datasets.Dataset.from_dict(COLUMNS).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert list(read_corpus("hf:owner/wiki:psgs:validation")) == WANTED
    assert asked == ["owner/wiki", "psgs", {"split": "validation", "streaming": True}]
