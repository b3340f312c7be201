"""Questions by name or by path: local files first, then the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ragkit.corpus.formats import plain, squad
from ragkit.corpus.formats.examples import checked_examples, read_examples
from ragkit.corpus.formats.records import Record
from ragkit.corpus.formats.table import parse_each
from ragkit.errors import InputError
from ragkit.progress import progress
from ragkit.sample import questions_path
from ragkit.types import Example

ENVIRONMENT = "RAGKIT_DATA"
SAMPLE = "sample"


@dataclass(frozen=True, slots=True)
class NamedDataset:
    """Where a dataset is on the hub: ``splits`` gives the hub's name of each of ours.

    The first split is the one that the bare name stands for.
    """

    hub_id: str
    config: str | None
    splits: Mapping[str, str]
    parse: Callable[[Record], Example]


# What papers report as the test set of NQ and TriviaQA is the hub's validation split. Their dev sets (8,757 and 8,837
# questions) were cut from train by lists of the authors, so the hub has none: they come from files only.
NAMED_DATASETS: dict[str, NamedDataset] = {
    "nq": NamedDataset(
        "google-research-datasets/nq_open",
        "nq_open",
        {"test": "validation", "train": "train"},
        plain.parse_nq_open,
    ),
    "triviaqa": NamedDataset(
        "mandarjoshi/trivia_qa",
        "unfiltered.nocontext",
        {"test": "validation", "train": "train"},
        plain.parse_triviaqa_row,
    ),
    "triviaqa-rc": NamedDataset(
        "mandarjoshi/trivia_qa",
        "rc",
        {"dev": "validation", "train": "train"},
        plain.parse_triviaqa_row,
    ),
    "squad": NamedDataset("rajpurkar/squad", None, {"dev": "validation", "train": "train"}, squad.parse_row),
}


def load_examples(name_or_path: str, *, datasets_dir: Path | None = None) -> list[Example]:
    """The examples of a file, or of a named dataset such as ``nq/test`` or ``nq``.

    A path that exists wins over a name. ``sample/train`` and so on is the built-in sample. Another name is looked up
    as the file ``NAME.SPLIT.jsonl`` in ``datasets_dir`` (by default the folder in the environment variable
    ``RAGKIT_DATA``), then, if it is in :data:`NAMED_DATASETS`, on the Hugging Face hub or in its cache.

    Raises:
        InputError: there is no such file and no such dataset, or the hub cannot be reached; the message says where it
            was looked for and what to do.
        FormatError: a record breaks its format.
    """
    path = Path(name_or_path).expanduser()
    if path.exists():
        return _read(path)
    name, _, split = name_or_path.partition("/")
    if name == SAMPLE:
        return _read(questions_path(split or "test"))
    known = NAMED_DATASETS.get(name)
    split = split or (next(iter(known.splits)) if known else "test")
    if not _is_name(name, split):
        raise InputError(f"no such file: {name_or_path}")
    local = _local_file(name, split, datasets_dir)
    if local is not None and local.is_file():
        return _read(local)
    looked = f"no file {path}; " + (f"no file {local}" if local else f"{ENVIRONMENT} is not set")
    if known is None:
        raise InputError(f"{looked}; and {name!r} is none of the named datasets {sorted([SAMPLE, *NAMED_DATASETS])}")
    if split not in known.splits:
        raise InputError(f"{looked}; and the hub's {known.hub_id} has no {split!r}, only {sorted(known.splits)}")
    return _from_hub(known, split, looked=looked)


def _read(path: Path) -> list[Example]:
    return list(progress(read_examples(path), description=f"questions of {path.name}"))


def _is_name(name: str, split: str) -> bool:
    return all(part.replace("-", "").replace("_", "").isalnum() for part in (name, split))


def _local_file(name: str, split: str, datasets_dir: Path | None) -> Path | None:
    folder = datasets_dir if datasets_dir is not None else os.environ.get(ENVIRONMENT)
    return Path(folder).expanduser() / f"{name}.{split}.jsonl" if folder else None


def _from_hub(known: NamedDataset, split: str, *, looked: str) -> list[Example]:
    import datasets  # type: ignore[import-untyped]  # over a second that a local file need not pay

    try:
        rows = datasets.load_dataset(known.hub_id, known.config, split=known.splits[split])
    except (OSError, ValueError) as error:
        raise InputError(
            f"{looked}; and {known.hub_id} cannot be loaded from the hub ({error}). Without a network, give the path "
            f"of a file (any format of `ragkit convert`), or set {ENVIRONMENT} to the folder with it"
        ) from error
    place = Path(f"hf:{known.hub_id}:{known.splits[split]}")
    records = (Record(place, number, row) for number, row in enumerate(rows, start=1))
    return list(checked_examples(parse_each(records, known.parse), place))
