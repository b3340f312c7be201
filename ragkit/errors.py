"""The exceptions of ragkit: each message says what came, what was wanted and what to do.

Everything the user can cause derives from :class:`RagkitError`; the command line prints such an error as one
message and exits with 2. Any other exception is a defect of ragkit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


class RagkitError(Exception):
    """Base of every error that the user's input, configuration or files can cause."""


class InputError(RagkitError):
    """A value or a file that the user gave is not usable."""


class FormatError(InputError):
    """A record of a file breaks its format; the message starts with ``file:line``."""

    def __init__(self, path: Path | str, line: int | None, reason: str) -> None:
        self.path, self.line, self.reason = Path(path), line, reason
        where = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{where}: {reason}")


class DuplicateIds(InputError):
    """Two passages of a corpus have the same id; ``duplicates`` are the first few ids, each with its rows from 0.

    ``places`` says where the rows stand in the source, such as ``psgs.tsv:12``, where that is known.
    """

    def __init__(
        self, duplicates: Sequence[tuple[str, Sequence[int]]], places: Mapping[int, str] | None = None
    ) -> None:
        self.duplicates = duplicates
        places = places or {}
        shown = (
            f"{passage_id!r} at " + ", ".join(places.get(row, f"row {row}") for row in rows)
            for passage_id, rows in duplicates
        )
        super().__init__(
            "ids must be unique, and these are not: " + "; ".join(shown) + "; give every passage its own id"
        )


class ConfigError(RagkitError):
    """A configuration names something unknown, lacks a value, or does not bind to its constructor."""


class ModelNotFound(RagkitError):
    """A model reference leads nowhere."""


class MissingPackage(RagkitError):
    """An optional package is not installed; the message gives the exact ``pip install`` line."""


class IndexMismatch(RagkitError):
    """An index belongs to another encoder, corpus, dimension or metric than the one at hand."""


class IndexCorrupt(RagkitError):
    """A file of an index or a store is missing, truncated, altered or not finished."""


class IndexBusy(RagkitError):
    """Another process is writing the same index directory."""


class DiskFull(RagkitError):
    """The disk has no room for what was being written; the message gives the bytes needed."""


class CheckpointError(RagkitError):
    """A checkpoint cannot be read, or belongs to another run."""


class NonFiniteVectors(RagkitError):
    """An encoder produced NaN or infinite vectors; the message names the passages."""


class RefreshFailed(RagkitError):
    """The index could not be refreshed while a retriever trains; the live generation is as it was."""


class TrainingDiverged(RagkitError):
    """Too many updates had a loss or a gradient that is not finite."""


class ProcessLost(RagkitError):
    """One of several processes that train together died or hangs; the message names its rank."""
