"""How much the reader looks at each passage: the feedback of ADist (FiD-KD, Atlas)."""

from __future__ import annotations

from ragkit.feedback.signal import AnsweredQuestions, Feedback, attending, judging
from ragkit.reader.protocol import MassKind, Reader


def attention(reader: Reader, asked: AnsweredQuestions, *, kind: MassKind = "value_norm") -> Feedback:
    """The cross-attention that the answer pays to every passage read jointly, ``[query, passage]``.

    ``value_norm`` is ADist's, ``pre_softmax`` FiD-KD's (:meth:`ragkit.reader.protocol.AttendingReader.attention_mass`).
    ConfigError for a reader without cross-attention. One joint reader pass.
    """
    with judging(reader):
        found = attending(reader).attention_mass(asked.questions, asked.passages, asked.answers, kind=kind)  # type: ignore[arg-type]
    return Feedback(found.float())
