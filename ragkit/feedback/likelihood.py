"""How likely the answer is from each passage alone: the feedback of LDist (PDist) and EMDR2."""

from __future__ import annotations

import torch

from ragkit.feedback.signal import AnsweredQuestions, Feedback, Normalize, answer_likelihood
from ragkit.reader.protocol import Reader


def likelihood(
    reader: Reader, asked: AnsweredQuestions, *, normalize: Normalize = "sum", by_token: bool = False
) -> Feedback:
    """``log p(answer | question, passage)`` of every passage, ``[query, passage]``, natural logarithm.

    ``normalize`` "sum" is the log-probability of the answer (the papers), "mean" is that over its tokens (Atlas's
    code). ``by_token`` keeps the tokens apart, ``[query, passage, token]``, as the token form of EMDR2 wants them. One
    reader pass over each passage by itself; of the decoder alone, where the passages are encoded already.
    """
    found = answer_likelihood(reader, asked, given="alone")
    if by_token:
        tokens = found.tokens.masked_fill(~found.set_mask[..., None], -torch.inf)
        return Feedback(tokens, found.token_mask)
    return Feedback(found.sums if normalize == "sum" else found.means)
