"""Finding passages: dual encoders, BM25, and fusions of both."""

from ragkit.retriever.dual_encoder import DualEncoder
from ragkit.retriever.options import EncoderOptions
from ragkit.retriever.protocol import Retriever

__all__ = ["DualEncoder", "EncoderOptions", "Retriever"]
