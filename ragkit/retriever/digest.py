"""The identity of an encoder: sha256 of all that decides its vectors."""

from __future__ import annotations

import hashlib
import json
from typing import Protocol

import torch

from ragkit.retriever.options import EncoderOptions
from ragkit.retriever.tower import Tower
from ragkit.text.tokens import Tokenizer


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...


def encoder_digest(query_tower: Tower, passage_tower: Tower, options: EncoderOptions) -> str:
    """Hex sha256 of float32 weights, tokenizers, projection, pooling, normalisation, templates and maximal lengths."""
    found = hashlib.sha256(b"ragkit encoder 1\n")
    found.update(json.dumps(options.to_dict(), sort_keys=True).encode())
    _add_tower(found, passage_tower)
    if query_tower is not passage_tower:
        found.update(b"query tower\n")
        _add_tower(found, query_tower)
    return found.hexdigest()


def _add_tower(found: _Hash, tower: Tower) -> None:
    found.update(_tokenizer_text(tower.tokenizer).encode())
    for name, weight in tower.weights().items():
        found.update(f"{name} {list(weight.shape)}\n".encode())
        found.update(weight.detach().to("cpu", torch.float32).contiguous().numpy().data)


def _tokenizer_text(tokenizer: Tokenizer) -> str:
    """The tokenizer's own JSON without what the last call left in it, and its side of padding."""
    saved = json.loads(tokenizer.backend_tokenizer.to_str())
    saved["truncation"] = saved["padding"] = None
    return json.dumps([saved, tokenizer.padding_side], sort_keys=True)
