"""How much the answer needs each passage: the feedback of LOOL (the papers' LOOP)."""

from __future__ import annotations

import torch

from ragkit.feedback.signal import AnsweredQuestions, Feedback, Normalize, answer_likelihood
from ragkit.reader.protocol import Reader


def leave_one_out(reader: Reader, asked: AnsweredQuestions, *, normalize: Normalize = "sum") -> Feedback:
    """``-log p(answer | question, all passages but this)`` of every passage, ``[query, passage]``.

    Large where the answer cannot do without the passage. Where two passages hold the answer neither is missed, so the
    feedback is nearly flat: that is the method's weakness, and with a passage for each of two hops its strength.
    ``normalize`` as in :func:`~ragkit.feedback.likelihood.likelihood`. One encoder pass (none
    where the passages are encoded already) and a decoder pass a passage.
    """
    found = answer_likelihood(reader, asked, given="leave_one_out")
    lost = -(found.sums if normalize == "sum" else found.means)
    return Feedback(lost.masked_fill(~found.set_mask, -torch.inf))
