"""The passages of a batch encoded once, for all the signals that a reader is asked for."""

from __future__ import annotations

from dataclasses import replace

from ragkit.feedback.signal import AnsweredQuestions, judging
from ragkit.reader.protocol import EncodingReader, Reader


def encoded(reader: Reader, asked: AnsweredQuestions) -> AnsweredQuestions:
    """The questions with a memory of their passages, which every signal then reads in place of encoding them anew.

    They are as they were where they have one already, and where the reader does not encode passages apart from the
    answer (extractive, causal). The states of all passages are held at once, ``[query, token, dim]``: worth it for two
    signals or more. The memory is of the reader's weights as they are; let it go with the batch.
    """
    if asked.memory is not None or not isinstance(reader, EncodingReader):
        return asked
    with judging(reader), reader.answering():
        return replace(asked, memory=reader.encode(asked.questions, asked.passages, with_alone=True))
