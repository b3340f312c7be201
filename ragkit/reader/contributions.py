"""What each passage contributed to answers that were written, from a memory that holds the passages already."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ragkit.reader.cross_attention import attention_mass
from ragkit.reader.decoding import AnswerDecoder, Targets
from ragkit.reader.evidence import leave_one_out_shares, mass_shares
from ragkit.reader.fusion import Memory
from ragkit.reader.passage_sets import score_sets
from ragkit.reader.protocol import Explain


def contributions(
    decoder: AnswerDecoder, memory: Memory, targets: Targets, *, explain: Explain | None, budget: int
) -> list[Sequence[float] | None]:
    """The share of each passage of each question in what ``explain`` measures; None a question where it is None."""
    if explain == "attention":
        return list(mass_shares(attention_mass(decoder, memory.jointly(), targets, kind="value_norm")).tolist())
    if explain == "leave_one_out":
        without = score_sets(decoder, memory, targets, given="leave_one_out", budget=budget).sum(dim=-1)
        is_there = torch.arange(without.shape[1], device=without.device) < memory.n_passages[:, None]
        return list(leave_one_out_shares(without.masked_fill(~is_there, -torch.inf)).tolist())
    return [None] * len(targets.ids)
