"""Batches of texts by token budget: sorted by length, so that little is padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def plan_batches(lengths: Sequence[int], *, batch_tokens: int) -> list[list[int]]:
    """The rows of each batch, longest texts first; a batch holds at most ``batch_tokens`` tokens with its padding.

    A single text longer than the budget is a batch of its own. Longest first: memory peaks at once, not at the end.

    >>> plan_batches([3, 9, 3, 2], batch_tokens=9)
    [[1], [0, 2, 3]]
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batches: list[list[int]] = []
    for row in order.tolist():
        if batches and (len(batches[-1]) + 1) * max(1, lengths[batches[-1][0]]) <= batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
