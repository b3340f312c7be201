"""The manifest of a generation: what it holds, what made it, and the size and sha256 of every file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ragkit.errors import IndexCorrupt, IndexMismatch

FORMAT = "ragkit-index"
VERSION = 1
NAME = "manifest.json"

Verify = Literal["size", "full"]

_VECTOR_KEYS = ("metric", "dim", "dtype", "zero_vectors")
_KINDS: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "count": int,
    "parameters": dict,
    "dim": (int, type(None)),
    "corpus_digest": str,
    "generation": int,
    "files": dict,
}


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What a file of the generation must be."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class VectorInfo:
    """The vectors of a dense index; ``dtype`` is that of the vector files, ``zero_vectors`` how many are all zero."""

    metric: str
    dim: int
    dtype: str
    zero_vectors: int = 0


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """The encoder of a dense index: how to load it (``recipe``: the arguments), its digest, the dtype it encoded in."""

    reference: str
    digest: str
    dtype: str
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Origin:
    """When and by what a generation was made; ``created`` is UTC in ISO 8601."""

    generation: int
    created: str
    ragkit_version: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of ``manifest.json``; ``vectors`` is None for a BM25 index, ``encoder`` also for plain vectors."""

    kind: str
    count: int
    parameters: Mapping[str, Any]
    vectors: VectorInfo | None
    encoder: EncoderInfo | None
    corpus_digest: str
    origin: Origin
    files: Mapping[str, FileEntry]

    def save(self, folder: Path) -> None:
        """Write ``folder/manifest.json``."""
        (folder / NAME).write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read ``folder/manifest.json``; IndexCorrupt if missing or malformed, IndexMismatch if of another version."""
        path = folder / NAME
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            found = (data["format"], data["version"])
        except FileNotFoundError as error:
            raise IndexCorrupt(f"{path} is missing: the build did not finish; run ragkit index again") from error
        except (ValueError, KeyError, TypeError) as error:
            raise IndexCorrupt(f"{path} is not a manifest: {error!r}; {_REBUILD}") from error
        if found != (FORMAT, VERSION):
            raise IndexMismatch(
                f"{path} is of format {found[0]} version {found[1]}, this ragkit reads {FORMAT} version {VERSION}; "
                "use the ragkit that wrote it or build the index again: ragkit index overwrite=true ..."
            )
        try:
            return cls.from_json(data)
        except (KeyError, TypeError, AttributeError) as error:
            raise IndexCorrupt(f"{path} lacks or misplaces a key: {error!r}; {_REBUILD}") from error

    def to_json(self) -> dict[str, Any]:
        """The manifest as the JSON object of docs/index-format.md."""
        vectors = asdict(self.vectors) if self.vectors else dict.fromkeys(_VECTOR_KEYS)
        return {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "parameters": dict(self.parameters),
            **vectors,
            "count": self.count,
            "encoder": asdict(self.encoder) if self.encoder else None,
            "corpus_digest": self.corpus_digest,
            **asdict(self.origin),
            "files": {name: asdict(entry) for name, entry in sorted(self.files.items())},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """The manifest of a JSON object; KeyError or TypeError where a key is missing or of another kind."""
        for key, kind in _KINDS.items():
            if not isinstance(data[key], kind):
                raise TypeError(f"{key} is {data[key]!r}")
        is_dense = data["dim"] is not None
        return cls(
            kind=data["kind"],
            count=data["count"],
            parameters=data["parameters"],
            vectors=VectorInfo(**{key: data[key] for key in _VECTOR_KEYS}) if is_dense else None,
            encoder=EncoderInfo(**data["encoder"]) if data["encoder"] else None,
            corpus_digest=data["corpus_digest"],
            origin=Origin(data["generation"], data["created"], data["ragkit_version"]),
            files={name: FileEntry(**entry) for name, entry in data["files"].items()},
        )

    def verify(self, folder: Path, *, level: Verify = "size") -> None:
        """Compare the files of ``folder`` with the manifest by size or (``full``) sha256; IndexCorrupt names one."""
        for name, entry in sorted(self.files.items()):
            path = folder / name
            if not path.is_file():
                raise IndexCorrupt(f"{path} is missing (the manifest wants {entry.size} bytes); {_REBUILD}")
            found = path.stat().st_size
            if found != entry.size:
                raise IndexCorrupt(f"{path} has {found} bytes, the manifest wants {entry.size}: truncated; {_REBUILD}")
            if level == "full" and (digest := sha256_of(path)) != entry.sha256:
                raise IndexCorrupt(
                    f"{path} was altered: its sha256 is {digest[:12]}..., the manifest wants {entry.sha256[:12]}...; "
                    f"{_REBUILD}"
                )

    def require(
        self,
        where: Path,
        *,
        dim: int | None = None,
        metric: str | None = None,
        encoder_digest: str | None = None,
        corpus_digest: str | None = None,
    ) -> None:
        """IndexMismatch unless the index is what the caller needs; None asks nothing."""
        found = (
            ("dimension", self.vectors.dim if self.vectors else None, dim),
            ("metric", self.vectors.metric if self.vectors else None, metric),
            ("encoder", self.encoder.digest if self.encoder else None, encoder_digest),
            ("corpus", self.corpus_digest, corpus_digest),
        )
        for name, has, wanted in found:
            if wanted is not None and has != wanted:
                made_by = f" (made by {self.encoder.reference})" if name == "encoder" and self.encoder else ""
                raise IndexMismatch(
                    f"index {where} has {name} {_short(has)}{made_by}, this run needs {_short(wanted)}; "
                    f"build it again: ragkit index corpus=FILE retriever=MODEL out={where} overwrite=true"
                )


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_REBUILD = "restore the file or build the index again: ragkit index overwrite=true ..."


def _short(value: object) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 32 else f"{value}"  # noqa: PLR2004  a digest
