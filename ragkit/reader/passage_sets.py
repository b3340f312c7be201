"""An answer's likelihood given sets of a question's passages, all from one pass of the encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ragkit.errors import InputError
from ragkit.reader.decoding import AnswerDecoder, Targets
from ragkit.reader.fusion import Memory
from ragkit.reader.likelihood import AnswerLikelihood, Given
from ragkit.reader.prompts import ALONE
from ragkit.reader.reading import length_batches


def passage_sets(
    memory: Memory, given: Given
) -> tuple[Int64[Tensor, " set"], Int64[Tensor, " set"], Bool[Tensor, "set token"]]:
    """The question, the number among the question's sets, and the memory's tokens of every set.

    Passages are encoded alone, so leaving one's tokens out is the same as never having had it. Leaving out a
    question's only passage leaves the tokens of the question alone, which the memory must hold.
    """
    rows = torch.arange(len(memory.mask), device=memory.mask.device)
    if given == "joint":
        return rows, torch.zeros_like(rows), memory.joint()
    n = memory.n_passages
    queries = rows.repeat_interleave(n)
    numbers = torch.arange(len(queries), device=rows.device) - (n.cumsum(0) - n)[queries]
    owner = memory.passage[queries]
    if given == "alone":
        return queries, numbers, owner == numbers[:, None]
    others = (owner != ALONE) & (owner != numbers[:, None])
    question_alone = memory.mask[queries] & (owner == ALONE)
    return queries, numbers, torch.where((n == 1)[queries][:, None], question_alone, others)


def empty_likelihood(n_passages: Sequence[int], targets: Targets, *, given: Given) -> AnswerLikelihood:
    """What :func:`score_sets` fills: zeros for questions with these numbers of passages."""
    device = targets.ids.device
    counts = torch.tensor([1 if given == "joint" else n for n in n_passages], device=device)
    set_mask = torch.arange(int(counts.max()), device=device) < counts[:, None]
    tokens = torch.zeros(*set_mask.shape, targets.ids.shape[1], device=device)
    return AnswerLikelihood(tokens, targets.mask, set_mask)


def score_sets(
    decoder: AnswerDecoder, memory: Memory, targets: Targets, *, given: Given, budget: int
) -> Float[Tensor, "query set token"]:
    """Natural log-probability of every answer token given every set; 0 at padding and where there is no set.

    A pass of the decoder has at most ``budget`` tokens of memory, padding included, and one set at least.
    """
    queries, numbers, keep = passage_sets(memory, given)
    n_sets = int(numbers.max()) + 1 if len(numbers) else 0
    found = memory.states.new_zeros(len(memory.mask), n_sets, targets.ids.shape[1], dtype=torch.float32)
    lengths = keep.sum(dim=-1).tolist()
    if 0 in lengths:
        raise InputError(
            "a question has one passage, and leaving it out leaves nothing to read; encode with with_alone=True"
        )
    for rows in length_batches(lengths, budget=budget):
        at = torch.tensor(rows, device=keep.device)
        line = queries[at]
        found[line, numbers[at]] = decoder.log_probs(memory.take(line, keep=keep[at]), targets.take(line))
    return found
