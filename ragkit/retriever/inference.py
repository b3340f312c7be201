"""Texts to vectors without gradient: windows sorted by length, batches by token budget, one snapshot of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64

from ragkit.retriever.batching import plan_batches
from ragkit.retriever.tower import Tower
from ragkit.text.tokens import tokenize

WINDOW = 4096  # texts that are tokenised and sorted together
BATCH_TOKENS = {"cpu": 2048, "cuda": 65536, "mps": 16384}  # measured on CPU (docs/encoders.md): small batches win there


@dataclass(slots=True)
class Encoded:
    """Vectors in the order of their texts, and what happened to the texts on the way.

    ``blank`` are the positions of texts without any character but white space: their vectors are zero, so that
    they match nothing. ``truncated`` counts the texts longer than the limit.
    """

    vectors: Float32[np.ndarray, "passage dim"]
    blank: Int64[np.ndarray, " blank"]
    truncated: int = 0

    @property
    def bad(self) -> Int64[np.ndarray, " bad"]:
        """Positions whose vector holds a NaN or an infinity."""
        return np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))


class Inference:
    """A tower's weights as they are now, in the number format to compute in; later training does not reach it.

    In float32 the tower itself is used and no copy is made, so there the weights must not change meanwhile.
    """

    def __init__(self, tower: Tower, *, pooling: str, normalize: bool, max_length: int, dtype: torch.dtype) -> None:
        self._tower = tower if dtype == torch.float32 else tower.copied(dtype).eval()
        self._pooling, self._normalize, self._max_length = pooling, normalize, max_length
        self.dtype = dtype
        self.device = next(tower.parameters()).device

    def encode(self, texts: Sequence[str], *, batch_tokens: int | None = None) -> Encoded:
        """The vectors of ``texts`` in their order, float32; a batch holds at most ``batch_tokens`` tokens."""
        result = self.allocate(texts)
        for _ in self.fill(result, texts, batch_tokens=batch_tokens):
            pass
        return result

    def allocate(self, texts: Sequence[str]) -> Encoded:
        """The result of ``texts`` before any is encoded: zero vectors."""
        blank = np.array([row for row, text in enumerate(texts) if not text.strip()], dtype=np.int64)
        return Encoded(np.zeros((len(texts), self._tower.dim), dtype=np.float32), blank)

    def fill(self, result: Encoded, texts: Sequence[str], *, batch_tokens: int | None = None) -> Iterator[int]:
        """Encode ``texts`` into ``result``; yields the number of texts done after each batch."""
        budget = batch_tokens or BATCH_TOKENS.get(self.device.type, 16384)
        was_training = self._tower.training
        self._tower.eval()
        try:
            for start in range(0, len(texts), WINDOW):
                tokens = tokenize(self._tower.tokenizer, texts[start : start + WINDOW], max_length=self._max_length)
                result.truncated += tokens.truncated
                for rows, vectors in self._window(tokens.ids, batch_tokens=budget):
                    result.vectors[np.asarray(rows) + start] = vectors
                    yield len(rows)
        finally:
            self._tower.train(was_training)
        result.vectors[result.blank] = 0.0

    def _window(
        self, ids: Sequence[list[int]], *, batch_tokens: int
    ) -> Iterator[tuple[list[int], Float32[np.ndarray, "passage dim"]]]:
        lengths = [len(row) for row in ids]
        for rows in plan_batches(lengths, batch_tokens=batch_tokens):
            batch = self._tower.pad([ids[row] for row in rows]).to(self.device)
            with torch.inference_mode():
                vectors = self._tower(batch, pooling=self._pooling, normalize=self._normalize)
            yield rows, vectors.cpu().numpy()
