"""The one order of hits: by score, larger first, then by row; missing hits last."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from ragkit.types import SearchResult


def order_hits(rows: Int[np.ndarray, "query k"], scores: Float[np.ndarray, "query k"]) -> SearchResult:
    """The hits as a :class:`SearchResult`: row -1 and score -inf, NaN or row < 0 count as missing and go last.

    >>> import numpy as np
    >>> hits = order_hits(np.array([[5, -1, 2, 9]]), np.array([[0.5, 3.0, 0.5, 0.7]]))
    >>> hits.rows.tolist()
    [[9, 2, 5, -1]]
    """
    missing = (rows < 0) | np.isneginf(scores) | np.isnan(scores)
    scores = np.where(missing, -np.inf, scores).astype(np.float32)
    rows = np.where(missing, -1, rows).astype(np.int64)
    # lexsort sorts by its last key first; a missing row must not come before a found one
    order = np.lexsort((np.where(missing, np.iinfo(np.int64).max, rows), -scores), axis=-1)
    return SearchResult(np.take_along_axis(rows, order, axis=-1), np.take_along_axis(scores, order, axis=-1))
