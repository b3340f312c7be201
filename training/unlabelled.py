"""Dev figures of a retriever that has no gold passages to learn from: what its index finds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from ragkit.corpus import PassageStore
from ragkit.metrics import exact_match, f1, has_answer
from ragkit.metrics.ranking import hit_at_k
from ragkit.reader.protocol import Reader
from ragkit.retriever.protocol import Retriever
from ragkit.types import Example, Passage, ScoredPassage, SearchResult

_DEPTHS = (1, 5, 20)


def dev_figures(
    retriever: Retriever, examples: Sequence[Example], *, store: PassageStore, reader: Reader | None, k: int
) -> dict[str, float]:
    """``hit@1/5/20`` by the answers, ``gold@1/5/20`` where gold passages are known, and EM and F1 of a reader.

    The index may be stale: these choose a checkpoint, and ``ragkit eval`` on an index of the trained retriever tells
    how good it is. A reader answers from the first ``k``. {} without dev questions.
    """
    if not examples:
        return {}
    hits = retriever.search([example.question for example in examples], k=max(*_DEPTHS, k))
    lines = passages_of(hits, store)
    answered = np.array(
        [_relevant(line, example, size=hits.rows.shape[1]) for line, example in zip(lines, examples, strict=True)]
    )
    figures = {f"hit@{depth}": float(hit_at_k(answered, depth).mean()) for depth in _DEPTHS}
    known = [row for row, example in enumerate(examples) if example.positives]
    if known:
        is_gold = np.array([_is_gold(lines[row], examples[row], size=hits.rows.shape[1]) for row in known])
        figures |= {f"gold@{depth}": float(hit_at_k(is_gold, depth).mean()) for depth in _DEPTHS}
    if reader is not None:
        seen = [line[:k] for line in lines]
        predictions = reader.answer([example.question for example in examples], seen)
        pairs = list(zip(predictions, examples, strict=True))
        figures["exact_match"] = float(np.mean([exact_match(found.text, e.answers) for found, e in pairs]))
        figures["f1"] = float(np.mean([f1(found.text, e.answers) for found, e in pairs]))
    return figures


def passages_of(hits: SearchResult, store: PassageStore) -> list[list[ScoredPassage]]:
    """The passages of the rows, best first; missing hits are left out."""
    wanted = np.unique(hits.rows[hits.rows >= 0])
    known = dict(zip(wanted.tolist(), store.take(wanted), strict=True))
    return [
        [ScoredPassage(known[int(row)], float(score)) for row, score in zip(rows, scores, strict=True) if row >= 0]
        for rows, scores in zip(hits.rows, hits.scores, strict=True)
    ]


def _relevant(line: Sequence[ScoredPassage], example: Example, *, size: int) -> Bool[np.ndarray, " rank"]:
    found = [has_answer(hit.passage.text, example.answers) for hit in line]
    return np.array([*found, *[False] * (size - len(found))], dtype=np.bool_)


def _is_gold(line: Sequence[ScoredPassage], example: Example, *, size: int) -> Bool[np.ndarray, " rank"]:
    """Whether each hit is a gold passage: by id, or by title and text where a file's ids are others."""
    ids = {passage.id for passage in example.positives if passage.id}
    texts = {_words(passage) for passage in example.positives if passage.text}
    found = [hit.passage.id in ids or _words(hit.passage) in texts for hit in line]
    return np.array([*found, *[False] * (size - len(found))], dtype=np.bool_)


def _words(passage: Passage) -> str:
    return f"{' '.join(passage.title.split())}\n{' '.join(passage.text.split())}"
