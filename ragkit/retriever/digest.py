"""The identity of an encoder: sha256 of all that decides its vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import torch

from ragkit.retriever.options import EncoderOptions
from ragkit.retriever.tower import Tower
from ragkit.text.tokens import Tokenizer


def encoder_digest(query_tower: Tower, passage_tower: Tower, options: EncoderOptions) -> str:
    """Hex sha256 of float32 weights, tokenizers, projection, pooling, normalisation, templates and maximal lengths."""
    found = hashlib.sha256(b"ragkit encoder 1\n")
    found.update(json.dumps(options.to_dict(), sort_keys=True).encode())
    towers = [passage_tower] if query_tower is passage_tower else [passage_tower, query_tower]
    for tower in towers:
        for part in _parts(tower):
            found.update(part)
    return found.hexdigest()


def _parts(tower: Tower) -> Iterator[bytes | memoryview]:
    yield b"tower\n" + _tokenizer_text(tower.tokenizer).encode()
    for name, weight in tower.weights().items():
        yield f"{name} {list(weight.shape)}\n".encode()
        yield weight.detach().to("cpu", torch.float32).contiguous().numpy().data


def _tokenizer_text(tokenizer: Tokenizer) -> str:
    """The tokenizer's own JSON without what the last call left in it, and its side of padding."""
    saved = json.loads(tokenizer.backend_tokenizer.to_str())
    saved["truncation"] = saved["padding"] = None
    return json.dumps([saved, tokenizer.padding_side], sort_keys=True)
