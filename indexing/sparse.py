"""Build the generation of a BM25 index."""

from __future__ import annotations

from typing import Any

from ragkit.corpus import PassageStore
from ragkit.index import IndexWriter, Manifest, new_origin
from ragkit.retriever.bm25 import BM25
from ragkit.retriever.open import SPARSE, SPARSE_FOLDER
from ragkit.retriever.rank_bm25 import RankBM25


class SparseBuild:
    """A BM25 of chosen parameters, about to meet a corpus."""

    def __init__(self, retriever: BM25 | RankBM25) -> None:
        self.retriever = retriever
        self.kind = next(kind for kind, made in SPARSE.items() if isinstance(retriever, made))

    def content(self) -> dict[str, Any]:
        """What decides the index beside its passages, to compare with a manifest's."""
        return {
            "kind": self.kind,
            "metric": None,
            "dtype": None,
            "encoder": None,
            "parameters": dict(self.retriever.parameters),
        }

    def describe(self) -> str:
        """One line about the parameters for the summary."""
        return ", ".join(f"{name} {value}" for name, value in self.retriever.parameters.items())

    def build(self, store: PassageStore, writer: IndexWriter, live: Manifest | None) -> Manifest:  # noqa: ARG002
        """Write ``bm25/`` into the writer's folder; its manifest, but for the files. Nothing of ``live`` is used."""
        folder = writer.begin(None)
        self.retriever.fit(store).save(folder / SPARSE_FOLDER)
        return Manifest(
            kind=self.kind,
            count=len(store),
            parameters=dict(self.retriever.parameters),
            vectors=None,
            encoder=None,
            corpus_digest=store.digest,
            origin=new_origin(writer.number),
            files={},
        )
