"""``ragkit index``: from a corpus file to an index directory."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ragkit.corpus import PassageStore, ReadOptions, ReadReport, SplitPolicy
from ragkit.errors import ConfigError, IndexCorrupt, IndexMismatch
from ragkit.failpoints import failpoint
from ragkit.index import IndexSpec, IndexWriter, Manifest, index_writer
from ragkit.retriever.bm25 import BM25
from ragkit.retriever.dual_encoder import DualEncoder
from ragkit.retriever.open import CORPUS
from ragkit.retriever.rank_bm25 import RankBM25

from .dense import DenseBuild
from .source import CorpusSource
from .sparse import SparseBuild
from .staging import STAGED, adopt_staged, discard_staged, existing_store, stage_corpus


@dataclass(frozen=True)
class IndexJob:
    """Read a corpus, encode or count it, and make a generation of ``out`` live.

    The same command again does nothing; after a kill it goes on with the vectors that are finished. An index of other
    passages, another encoder or another kind is replaced only with ``overwrite``. ``vectors`` is a ``.npy`` of the
    corpus' vectors made before: it is taken instead of encoding, once a sample of it has been checked.
    """

    corpus: CorpusSource
    retriever: DualEncoder | BM25 | RankBM25
    index: IndexSpec
    out: Path
    overwrite: bool = False
    format: str | None = None
    on_error: Literal["raise", "skip"] = "raise"
    split: SplitPolicy | None = None
    vectors: Path | None = None

    def run(self) -> None:
        """Build the index and print a summary.

        Raises:
            InputError: the corpus cannot be read, or ``out`` holds something that is not an index.
            IndexMismatch: ``out`` holds another index and ``overwrite`` is not set.
            IndexCorrupt: ``out`` holds this index, damaged, and ``overwrite`` is not set.
            IndexBusy, DiskFull, NonFiniteVectors: as their names say; the index that was there stays.
        """
        started = time.perf_counter()
        builder = self._builder()
        options = ReadOptions(format=self.format, on_error=self.on_error, split=self.split)
        report = ReadReport()
        with index_writer(self.out) as writer:
            staged = stage_corpus(self.corpus.path, self.out, options=options, report=report)
            live = self._live(writer)
            if live is not None and not self.overwrite:
                self._refuse_another(live, builder.content() | {"corpus": staged.digest})
                _say(self._keep(live))
                return
            store = self._store(staged, has_live=writer.live is not None)
            failpoint("indexing.corpus_stored")
            manifest = writer.seal(builder.build(store, writer, live))
            if (self.out / STAGED).exists():
                adopt_staged(self.out)
            writer.make_live()
        seconds = time.perf_counter() - started
        _say(f"{report.summary()}\n{builder.describe()}\n{_one_line(manifest)}; {_size(self.out)}, {seconds:.1f} s")

    def _builder(self) -> DenseBuild | SparseBuild:
        if isinstance(self.retriever, DualEncoder):
            return DenseBuild(self.retriever, self.index, vectors=self.vectors)
        if self.vectors is not None:
            raise ConfigError("vectors= is for a dense retriever; a BM25 index has no vectors")
        return SparseBuild(self.retriever)

    def _live(self, writer: IndexWriter) -> Manifest | None:
        """The manifest of the live generation, whose files are checked; a damaged one counts as none if it may go."""
        if writer.live is None:
            return None
        try:
            manifest = Manifest.load(writer.live)
            manifest.verify(writer.live)
        except (IndexCorrupt, IndexMismatch):
            if self.overwrite:
                return None
            raise
        return manifest

    def _refuse_another(self, live: Manifest, wanted: Mapping[str, Any]) -> None:
        there, asked = _flat(_content(live)), _flat(wanted)
        keys = [key for key in there | asked if there.get(key) != asked.get(key)]
        if not keys:
            return
        discard_staged(self.out)
        lines = [f"  {key}: there {_short(there.get(key))}, asked for {_short(asked.get(key))}" for key in keys]
        raise IndexMismatch(
            f"{self.out} holds another index, which is kept:\n" + "\n".join(lines) + "\n"
            "write to another out=, or replace it with overwrite=true"
        )

    def _keep(self, live: Manifest) -> str:
        """Leave the index as it is, but for passages that were lost or cut short; what to say about it."""
        if existing_store(self.out, verify="size") is not None:
            discard_staged(self.out)
            return f"{self.out} is up to date: {_one_line(live)}; nothing was done (overwrite=true builds it anew)"
        adopt_staged(self.out)
        return f"{self.out} is up to date: {_one_line(live)}; its damaged passages were written again"

    def _store(self, staged: PassageStore, *, has_live: bool) -> PassageStore:
        """The passages to build from: those in place if they are the same, else the staged ones."""
        existing = existing_store(self.out, verify="full" if self.overwrite else "size")
        if existing is not None and existing.digest == staged.digest:
            discard_staged(self.out)
            return existing
        if has_live:  # its passages stay until the new generation goes live
            return staged
        adopt_staged(self.out)
        return PassageStore.open(self.out / CORPUS)


def _content(manifest: Manifest) -> dict[str, Any]:
    """What a manifest says under the keys of a builder's content."""
    return {
        "kind": manifest.kind,
        "metric": manifest.vectors.metric if manifest.vectors else None,
        "dtype": manifest.vectors.dtype if manifest.vectors else None,
        "encoder": manifest.encoder.digest if manifest.encoder else None,
        "parameters": dict(manifest.parameters),
        "corpus": manifest.corpus_digest,
    }


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with a line for each parameter."""
    parameters = {f"parameters.{name}": value for name, value in content["parameters"].items()}
    return {key: value for key, value in content.items() if key != "parameters"} | parameters


def _one_line(manifest: Manifest) -> str:
    zero = manifest.vectors.zero_vectors if manifest.vectors else 0
    zeros = f", {zero:,} of them zero vectors" if zero else ""
    return f"{manifest.kind} index of {manifest.count:,} passages{zeros}, generation {manifest.origin.generation}"


def _size(index_dir: Path) -> str:
    total = sum(path.stat().st_size for path in index_dir.rglob("*") if path.is_file())
    return f"{total / 1e6:,.1f} MB in {index_dir}"


def _short(value: object) -> str:
    text = f"{value}"
    return f"{text[:12]}..." if isinstance(value, str) and len(text) > 32 else text  # noqa: PLR2004  a digest


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
