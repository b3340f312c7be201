"""The inner loop of BM25 search, compiled by numba; import it only where a search runs (it imports numba).

bm25s's own loop returns documents that score 0 and, of equal scores at the cut, arbitrary ones. This one takes
neither more time nor more memory, never returns a score of 0, and keeps the lower row of equal scores.
(``no_type_check`` because run-time type checks, as in the tests, would be in the way of numba.)
"""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float32, Int32, Int64


@numba.njit(nogil=True)
@no_type_check
def _is_worse(score: float, row: int, than_score: float, than_row: int) -> bool:
    return score < than_score or (score == than_score and row > than_row)


@numba.njit(nogil=True)
@no_type_check
def _sink(scores: np.ndarray, rows: np.ndarray, length: int) -> None:
    """Restore the heap after its root changed: every parent is worse than its children."""
    score, row, at = scores[0], rows[0], 0
    while 2 * at + 1 < length:
        child = 2 * at + 1
        if child + 1 < length and _is_worse(scores[child + 1], rows[child + 1], scores[child], rows[child]):
            child += 1
        if not _is_worse(scores[child], rows[child], score, row):
            break
        scores[at], rows[at] = scores[child], rows[child]
        at = child
    scores[at], rows[at] = score, row


@numba.njit(nogil=True)
@no_type_check
def _rise(scores: np.ndarray, rows: np.ndarray, at: int) -> None:
    """Restore the heap after an entry came in at its end, ``at``."""
    score, row = scores[at], rows[at]
    while at > 0 and _is_worse(score, row, scores[(at - 1) // 2], rows[(at - 1) // 2]):
        scores[at], rows[at] = scores[(at - 1) // 2], rows[(at - 1) // 2]
        at = (at - 1) // 2
    scores[at], rows[at] = score, row


@numba.njit(nogil=True)
@no_type_check
def _top(totals: np.ndarray, rows: np.ndarray, scores: np.ndarray) -> None:
    """Write the best positive totals and their rows, best first, and set all totals to 0; unused places stay."""
    k, length = len(rows), 0
    limit = totals.dtype.type(0)  # a variable: the loop below is as fast as this comparison
    for row in range(len(totals)):
        total = totals[row]
        totals[row] = 0
        if total > limit:  # rows come in ascending order: of equal scores the later is the worse
            if length < k:
                scores[length], rows[length] = total, row
                _rise(scores, rows, length)
                length += 1
            else:
                scores[0], rows[0] = total, row
                _sink(scores, rows, k)
            if length == k:
                limit = scores[0]
    for last in range(length - 1, 0, -1):  # heap sort: the worst goes to the end
        score, row = scores[0], rows[0]
        scores[0], rows[0] = scores[last], rows[last]
        scores[last], rows[last] = score, row
        _sink(scores, rows, last)


@numba.njit(nogil=True)
@no_type_check
def _search(
    postings: tuple[np.ndarray, np.ndarray, np.ndarray],
    queries: tuple[np.ndarray, np.ndarray],
    totals: np.ndarray,
    hits: tuple[np.ndarray, np.ndarray],
) -> None:
    data, indices, indptr = postings
    terms, starts = queries
    rows, scores = hits
    for query in range(len(starts) - 1):
        for position in range(starts[query], starts[query + 1]):
            term = terms[position]
            for entry in range(indptr[term], indptr[term + 1]):
                totals[indices[entry]] += data[entry]
        if starts[query + 1] > starts[query]:
            _top(totals, rows[query], scores[query])


def search_postings(
    postings: tuple[Float32[np.ndarray, " entry"], Int32[np.ndarray, " entry"], Int64[np.ndarray, " term_end"]],
    queries: list[list[int]],
    *,
    n_passages: int,
    k: int,
) -> tuple[Int64[np.ndarray, "query k"], Float32[np.ndarray, "query k"]]:
    """Rows and scores of the k best passages of each query, by score, then row; missing hits are -1 and -inf.

    ``postings`` is bm25s's index: the scores of every (term, passage) pair, term by term, the rows they belong to,
    and where each term starts (its length is the number of terms + 1). A query is a list of term numbers.
    """
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    starts = np.cumsum([0] + [len(terms) for terms in queries], dtype=np.int64)
    terms = np.fromiter((term for query in queries for term in query), dtype=np.int64, count=int(starts[-1]))
    _search(postings, (terms, starts), np.zeros(n_passages, dtype=np.float32), (rows, scores))
    return rows, scores
