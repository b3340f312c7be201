"""Questions by name or by path: local files first, then the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path

from ragkit.corpus.formats.examples import read_examples
from ragkit.errors import InputError
from ragkit.types import Example


def load_examples(name_or_path: str, *, datasets_dir: Path | None = None) -> list[Example]:
    """The examples of a file, or of a named dataset such as ``nq/test``.

    A path that exists wins over a name. A name is looked up as ``NAME.SPLIT.jsonl`` in ``datasets_dir``, by default
    the folder in the environment variable ``RAGKIT_DATA``.

    Raises:
        InputError: there is no such file and no such dataset.
        FormatError: the file breaks its format.
    """
    path = Path(name_or_path).expanduser()
    if path.exists():
        return list(read_examples(path))
    name, _, split = name_or_path.partition("/")
    folder = datasets_dir or (Path(os.environ["RAGKIT_DATA"]) if os.environ.get("RAGKIT_DATA") else None)
    local = folder / f"{name}.{split or 'test'}.jsonl" if folder else None
    if local is not None and local.exists():
        return list(read_examples(local))
    raise InputError(f"no file {name_or_path}, and no dataset of that name ({local or 'RAGKIT_DATA is not set'})")
