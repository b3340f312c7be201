"""Tables of the `datasets` library: folders written by ``save_to_disk``, and data sets of the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ragkit.corpus.sources.fields import FIELDS, to_passage
from ragkit.corpus.sources.parquet import check_columns
from ragkit.corpus.sources.rows import Row
from ragkit.errors import InputError

HUB = "hf:"


def is_saved_dataset(path: Path) -> bool:
    """Whether ``path`` is a folder that ``save_to_disk`` of `datasets` wrote."""
    return (path / "dataset_dict.json").is_file() or (
        (path / "dataset_info.json").is_file() and (path / "state.json").is_file()
    )


def read_saved_dataset(path: Path) -> Iterator[Row]:
    """The rows of a folder written by ``save_to_disk``, memory-mapped; of several splits the one that is asked for.

    A folder of several splits is refused, naming them: give the split's own folder.
    """
    import datasets  # type: ignore[import-untyped]  # noqa: PLC0415  slow to import

    try:
        table = datasets.load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read by datasets.load_from_disk ({error})") from error
    if isinstance(table, datasets.DatasetDict):
        if len(table) != 1:
            splits = ", ".join(str(path / name) for name in table)
            raise InputError(f"{path} has {len(table)} splits; give the folder of one of them: {splits}")
        table = next(iter(table.values()))
    return _rows(path, table, names=table.column_names)


def read_hub(path: Path) -> Iterator[Row]:
    """The rows of a data set of the hub, streamed: ``hf:NAME``, ``hf:NAME:CONFIG`` or ``hf:NAME:CONFIG:SPLIT``."""
    import datasets  # noqa: PLC0415  slow to import

    name, _, rest = str(path).removeprefix(HUB).partition(":")
    config, _, split = rest.partition(":")
    try:
        table = datasets.load_dataset(name, config or None, split=split or "train", streaming=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"data set {name!r} cannot be loaded from the hub ({error}); "
            "where there is no network, save it once with save_to_disk and give the folder"
        ) from error
    names = table.column_names or list(next(iter(table)))
    return _rows(path, table, names=names)


def _rows(path: Path, table: Iterable[dict[str, Any]], *, names: list[str]) -> Iterator[Row]:
    check_columns(path, names)
    wanted = [name for name in names if name in FIELDS]
    selected = table.select_columns(wanted) if hasattr(table, "select_columns") else table
    return (Row(path, number, to_passage(record)) for number, record in enumerate(selected, start=1))
