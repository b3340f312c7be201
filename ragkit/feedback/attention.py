"""How much the reader looks at each passage: the feedback of ADist (FiD-KD, Atlas)."""

from __future__ import annotations

from typing import Any

from ragkit.feedback.signal import AnsweredQuestions, Feedback, attending, encoding, judging
from ragkit.reader.protocol import MassKind, Reader


def attention(reader: Reader, asked: AnsweredQuestions, *, kind: MassKind = "value_norm") -> Feedback:
    """The cross-attention that the answer pays to every passage read jointly, ``[query, passage]``.

    ``value_norm`` is ADist's, ``pre_softmax`` FiD-KD's (:meth:`ragkit.reader.protocol.AttendingReader.attention_mass`).
    ConfigError for a reader without cross-attention. One joint reader pass; of the decoder alone, where the passages
    are encoded already.
    """
    answers: Any = asked.answers
    with judging(reader):
        if asked.memory is None:
            found = attending(reader).attention_mass(asked.questions, asked.passages, answers, kind=kind)
        else:
            found = encoding(reader).attend(asked.memory, answers, kind=kind)
    return Feedback(found.float())
