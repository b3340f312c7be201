"""A model's cache of keys and values, under the name that the installed transformers gives it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from transformers import Cache
from transformers.modeling_outputs import Seq2SeqLMOutput

# transformers 5.24 renamed it in every model's arguments and outputs and in generate's; the old name warns since then
_CACHE: Final = "cache" if "cache" in {field.name for field in fields(Seq2SeqLMOutput)} else "past_key_values"


def cache_argument(cache: Cache | None) -> dict[str, Any]:
    """The cache as a keyword argument of a model, of its ``generate`` or of an output; pass it on with ``**``."""
    return {_CACHE: cache}


def cache_of(output: Any) -> Any:
    """The cache in a model's output, None where it kept none."""
    return getattr(output, _CACHE)
