"""Files that appear whole or not at all, and the JSON in them."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from ragkit.errors import InputError

_LINES = {".jsonl", ".ndjson"}


@contextlib.contextmanager
def atomically(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A path of the same name in a new folder beside ``target``, moved to ``target`` when the block ends without error.

    Raises:
        InputError: ``target`` is there and ``overwrite`` is false, or it is a folder, which is never replaced.
    """
    if target.is_dir():
        raise InputError(f"{target} is a folder that is there already; choose another name, or remove it")
    if target.exists() and not overwrite:
        raise InputError(f"{target} is there already; choose another name, or add overwrite=true")
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield aside / target.name
        _sync(aside / target.name)
        (aside / target.name).replace(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


@contextlib.contextmanager
def text_file(path: Path) -> Iterator[TextIO]:
    """A new UTF-8 file with LF line ends; packed where the name ends in ``.gz``, without a time in it."""
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(path.open("wb"))
        packed = stack.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0)) if path.suffix == ".gz" else raw
        yield stack.enter_context(io.TextIOWrapper(packed, encoding="utf-8", newline="\n"))


def is_for_lines(path: Path) -> bool:
    """Whether a name asks for JSON Lines: ``.jsonl`` or ``.ndjson``, perhaps with ``.gz``."""
    return Path(path.name.removesuffix(".gz")).suffix in _LINES


def write_lines(records: Iterable[Mapping[str, Any]], path: Path) -> None:
    """JSON Lines."""
    with text_file(path) as file:
        file.writelines(f"{_json(record)}\n" for record in records)


def write_list(records: Iterable[Mapping[str, Any]], path: Path, *, under: str = "") -> None:
    """One JSON list, a record on each line; inside an object, under the key ``under``, where that is given."""
    opening, closing = (f"{{{_json(under)}: [", "]}\n") if under else ("[", "]\n")
    _write_items((_json(record) for record in records), path, opening=opening, closing=closing)


def write_members(members: Iterable[tuple[str, Mapping[str, Any]]], path: Path) -> None:
    """One JSON object, a member on each line."""
    _write_items((f"{_json(key)}: {_json(value)}" for key, value in members), path, opening="{", closing="}\n")


def _write_items(items: Iterable[str], path: Path, *, opening: str, closing: str) -> None:
    with text_file(path) as file:
        file.write(opening)
        separator = "\n"
        for item in items:
            file.write(separator + item)
            separator = ",\n"
        file.write("\n" + closing)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
