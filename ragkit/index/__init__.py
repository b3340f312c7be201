"""Vectors and row numbers on disk; never text, never models."""

from ragkit.index.build import build_index
from ragkit.index.faiss_index import FaissIndex
from ragkit.index.generation import IndexWriter, index_writer, is_index_dir, live_generation, prune
from ragkit.index.manifest import EncoderInfo, Manifest, Origin, VectorInfo
from ragkit.index.open import new_origin, open_index, write_index
from ragkit.index.order import order_hits
from ragkit.index.protocol import VectorIndex
from ragkit.index.spec import IndexSpec

__all__ = [
    "EncoderInfo",
    "FaissIndex",
    "IndexSpec",
    "IndexWriter",
    "Manifest",
    "Origin",
    "VectorIndex",
    "VectorInfo",
    "build_index",
    "index_writer",
    "is_index_dir",
    "live_generation",
    "new_origin",
    "open_index",
    "order_hits",
    "prune",
    "write_index",
]
