"""Strings: model references, templates, tokens."""

from ragkit.text.models import resolve
from ragkit.text.templates import Template
from ragkit.text.tokens import TokenBatch, clean_text

__all__ = ["Template", "TokenBatch", "clean_text", "resolve"]
