"""The encodings of a reader that is trained and asked for feedback too: made once an update, for both.

The reader is asked in eval mode and trained in training mode. Only where both give the same encodings, that is without
dropout, can one serve for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeGuard, cast

from torch import nn

from ragkit.feedback import AnsweredQuestions
from ragkit.feedback.signal import judging
from ragkit.reader.fusion import Memory
from ragkit.reader.protocol import EncodingReader, Reader
from ragkit.types import Passage

from .modules import has_dropout


def encodes_alike(reader: Reader | None) -> TypeGuard[EncodingReader]:
    """Whether the reader's encodings can be shared, and are the same in training mode as in eval mode."""
    return isinstance(reader, EncodingReader) and not has_dropout(cast(nn.Module, reader))


def encode_for_both(
    reader: EncodingReader, asked: AnsweredQuestions, *, read: Sequence[Sequence[int]]
) -> tuple[Memory, AnsweredQuestions]:
    """The memory for the reader's own loss, with gradient; and the questions with a memory for feedback, without.

    ``read`` are the places of those of a question's passages that the reader's loss sees. They are encoded once, for
    both; the others without gradient, for the feedback alone.
    """
    is_one = any(len(line) == 1 for line in asked.passages)  # which leave-one-out leaves with the question alone
    own = reader.encode(asked.questions, passages_at(read, asked), with_alone=is_one)
    memory = own.detached().numbered(read)
    left = [sorted(set(range(len(line))) - set(places)) for line, places in zip(asked.passages, read, strict=True)]
    if any(left):
        with judging(reader):
            memory = memory.beside(reader.encode(asked.questions, passages_at(left, asked)).numbered(left))
    return own, replace(asked, memory=memory)


def passages_at(places: Sequence[Sequence[int]], asked: AnsweredQuestions) -> list[list[Passage]]:
    """The passages at these places of each question's line."""
    return [[line[at] for at in chosen] for line, chosen in zip(asked.passages, places, strict=True)]
