"""What was evaluated, as ``metrics.json`` names it."""

from __future__ import annotations

from typing import Any

from ragkit.retriever.dense import DenseRetriever
from ragkit.retriever.open import SPARSE

_DIGITS = 8  # of a digest: enough to tell two encoders apart


def describe_retriever(retriever: object) -> dict[str, Any]:
    """Its kind, as in the manifest; of a dense one also the encoder's reference and the beginning of its digest."""
    if not isinstance(retriever, DenseRetriever):
        kinds = [kind for kind, made in SPARSE.items() if isinstance(retriever, made)]
        return {"kind": kinds[0] if kinds else type(retriever).__name__}
    manifest = retriever.index.manifest
    made_by = manifest.encoder  # opening it has compared the digests
    reference = str(getattr(retriever.encoder, "reference", "")) or (made_by.reference if made_by else "")
    digest = made_by.digest if made_by else retriever.encoder.digest
    return {"kind": manifest.kind, "encoder": reference, "digest": digest[:_DIGITS]}


def describe_reader(reader: object) -> str:
    """Where the reader was loaded from; its class where it does not say."""
    return str(getattr(reader, "reference", "")) or type(reader).__name__
