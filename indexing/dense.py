"""Build the generation of a dense index: encode the passages, then index the vectors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ragkit.corpus import PassageStore
from ragkit.index import EncoderInfo, IndexSpec, IndexWriter, Manifest, build_index, new_origin
from ragkit.index.manifest import sha256_of
from ragkit.retriever.dual_encoder import DualEncoder
from ragkit.retriever.encode import EncodeOptions, encode_corpus
from ragkit.retriever.given import adopt_vectors


class DenseBuild:
    """An encoder and a kind of index, about to meet a corpus."""

    def __init__(self, encoder: DualEncoder, spec: IndexSpec, *, vectors: Path | None = None) -> None:
        self.encoder, self.spec, self.vectors = encoder, spec, vectors
        self.digest = encoder.digest  # reads every weight, so only once
        self.computed_in = str(encoder.compute_dtype).removeprefix("torch.")

    def content(self) -> dict[str, Any]:
        """What decides the index beside its passages, to compare with a manifest's."""
        return {
            "kind": self.spec.kind,
            "metric": self.spec.metric,
            "dtype": self.spec.dtype,
            "encoder": self.digest,
            "parameters": self.spec.parameters,
        }

    def describe(self) -> str:
        """One line about the encoder for the summary."""
        device, name = self.encoder.device, self.encoder.reference or "an encoder made in memory"
        if self.vectors is not None:
            return f"vectors given: {self.vectors}, checked against {name} ({self.encoder.dim} dimensions)"
        return f"encoded by {name} in {self.computed_in} on {device} ({self.encoder.dim} dimensions)"

    def build(self, store: PassageStore, writer: IndexWriter, live: Manifest | None) -> Manifest:
        """Write the vectors and ``index.faiss`` into the writer's folder; its manifest, but for the files.

        Vectors of the live generation that the same encoder made of the same passages are linked, not made again.
        """
        itemsize = np.dtype(self.spec.dtype).itemsize
        plan = self.content() | {"corpus": store.digest, "computed_in": self.computed_in}
        folder = writer.begin(plan, bytes_needed=len(store) * self.encoder.dim * (itemsize + 4))
        if writer.live is not None and live is not None and self._has_our_vectors(live, store):
            _link_vectors(writer.live, live, folder)
        options = EncodeOptions(dtype=self.spec.dtype)
        if self.vectors is not None:
            adopt_vectors(self.vectors, self.encoder, store, folder, options=options)
        files = encode_corpus(self.encoder, store, folder, options=options)
        info = build_index(
            files, self.spec, folder, name_rows=lambda rows: "passages " + ", ".join(map(repr, store.ids(rows)))
        )
        return Manifest(
            kind=self.spec.kind,
            count=len(store),
            parameters=self.spec.parameters,
            vectors=info,
            encoder=EncoderInfo(self.encoder.reference, self.digest, self.computed_in, _located(self.encoder.recipe)),
            corpus_digest=store.digest,
            origin=new_origin(writer.number),
            files={},
        )

    def _has_our_vectors(self, live: Manifest, store: PassageStore) -> bool:
        if live.encoder is None or live.vectors is None:
            return False
        found = (live.encoder.digest, live.encoder.dtype, live.vectors.dtype, live.corpus_digest)
        return found == (self.digest, self.computed_in, self.spec.dtype, store.digest)


def _link_vectors(live: Path, manifest: Manifest, folder: Path) -> None:
    """Hard-link the vector files of ``live`` whose content is as the manifest says; a damaged one is made again."""
    for name, entry in manifest.files.items():
        is_there = (live / name).is_file() and not (folder / name).exists()
        if name.startswith("vectors") and is_there and sha256_of(live / name) == entry.sha256:
            os.link(live / name, folder / name)


def _located(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that load the encoder again, from whatever folder the index is opened in."""
    places = {key: recipe[key] for key in ("model", "passage_model") if recipe.get(key)}
    absolute = {key: str(Path(place).resolve()) for key, place in places.items() if Path(place).is_dir()}
    return dict(recipe) | absolute
