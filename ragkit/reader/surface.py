"""An answer as its passage writes it, where the reader's tokenizer has lost letters' case and spacing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

_PROBE = "A 2-1 (b.c.) d's"
_PIECE = re.compile(r"\w+|[^\w\s]")


def keeps_text(tokenizer: PreTrainedTokenizerBase) -> bool:
    """False where decoding does not give back what was encoded: a BERT tokenizer lowers case and parts signs."""
    ids = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    return str(tokenizer.decode(ids)).strip() == _PROBE


def as_written(text: str, passages: Sequence[str]) -> str:
    """The first place of a passage with the same letters and signs, whatever case and spaces; else the text itself.

    >>> as_written("j. r. r. tolkien ' s", ["By J.R.R. Tolkien's son."])
    "J.R.R. Tolkien's"
    >>> as_written("rome", ["By J.R.R. Tolkien's son."])
    'rome'
    """
    pieces = [re.escape(piece) for piece in _PIECE.findall(text)]
    if not pieces:
        return text
    pattern = re.compile(r"(?<!\w)" + r"\s*".join(pieces) + r"(?!\w)", re.IGNORECASE)
    found = (pattern.search(passage) for passage in passages)
    return next((place.group() for place in found if place), text)
