"""Texts to token ids: cleaned, cut at a maximal length, counted, padded into batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from ragkit.errors import ModelNotFound


@runtime_checkable
class Tokenizer(Protocol):
    """The little we use of a transformers fast tokenizer; named here because importing transformers is slow."""

    pad_token_id: int | None
    padding_side: str
    model_max_length: int
    backend_tokenizer: Any

    def __call__(self, text: list[str], **options: Any) -> Any:
        """A BatchEncoding."""

    def save_pretrained(self, save_directory: str) -> Any:
        """Writes the tokenizer's files."""


class TokenBatch(NamedTuple):
    """Token ids and the mask of real tokens (1) and padding (0); a tuple, so that wrappers can move it to a device."""

    ids: Int[Tensor, "passage token"]
    mask: Int[Tensor, "passage token"]

    def to(self, device: torch.device) -> TokenBatch:
        """The same batch on another device."""
        return TokenBatch(self.ids.to(device), self.mask.to(device))

    def part(self, rows: Sequence[int]) -> TokenBatch:
        """Some of its texts, without the columns that are padding in all of them."""
        chosen = torch.tensor(rows, dtype=torch.int64, device=self.ids.device)
        mask = self.mask[chosen]
        columns = mask.any(dim=0)
        return TokenBatch(self.ids[chosen][:, columns], mask[:, columns])


@dataclass(frozen=True, slots=True)
class TokenLists:
    """Token ids of several texts, not padded; ``truncated`` counts the texts that were longer than the limit."""

    ids: list[list[int]]
    truncated: int


def clean_text(text: str) -> str:
    r"""The text without what tokenizers choke on: NUL removed, lone surrogates replaced by U+FFFD, pairs joined.

    >>> clean_text("caf\u00e9\x00 \ud800") == "café \ufffd"
    True
    """
    if "\0" in text:
        text = text.replace("\0", "")
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def load_tokenizer(folder: str) -> Tokenizer:
    """The fast tokenizer saved in ``folder``; ModelNotFound where there is none."""
    from transformers import AutoTokenizer, PreTrainedTokenizerBase  # noqa: PLC0415  slow import

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelNotFound(f"no tokenizer can be read from {folder}: {str(error).splitlines()[0]}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerBase) or not tokenizer.is_fast:
        raise ModelNotFound(f"{folder} has no fast tokenizer; save one there: AutoTokenizer(...).save_pretrained")
    return cast(Tokenizer, tokenizer)


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], *, max_length: int) -> TokenLists:
    """Token ids of each text with the tokenizer's special tokens, cut to ``max_length`` tokens."""
    if not texts:
        return TokenLists([], 0)
    encoded = tokenizer(
        [clean_text(text) for text in texts],
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    encodings = encoded.encodings or []
    truncated = sum(1 for encoding in encodings if encoding.overflowing)
    return TokenLists(encoded["input_ids"], truncated)


def pad(ids: Sequence[Sequence[int]], *, pad_id: int, side: str = "right", multiple: int = 1) -> TokenBatch:
    """A batch as long as its longest member, rounded up to a multiple; padding on ``side``."""
    longest = max(1, *(len(row) for row in ids), 1)
    width = -(-longest // multiple) * multiple
    padded = torch.full((len(ids), width), pad_id, dtype=torch.int64)
    mask = torch.zeros((len(ids), width), dtype=torch.int64)
    for row, tokens in enumerate(ids):
        columns = slice(0, len(tokens)) if side == "right" else slice(width - len(tokens), width)
        padded[row, columns] = torch.tensor(tokens, dtype=torch.int64)
        mask[row, columns] = 1
    return TokenBatch(padded, mask)
