"""BM25 by the rank-bm25 package, behind the same interface as :class:`~ragkit.retriever.bm25.BM25`: a baseline.

It scores every passage in Python for each query, some thousand times slower than bm25s on a million passages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int64

from ragkit.index.order import order_hits
from ragkit.progress import progress
from ragkit.retriever.analyze import Analyzer, Passages
from ragkit.retriever.bm25 import check_parameters, check_search, corrupt, not_fitted, read_about
from ragkit.types import SearchResult

if TYPE_CHECKING:
    from rank_bm25 import BM25Okapi

_FORMAT = 1
_BATCH = 1024  # passages read at once
_ABOUT = "rank_bm25.json"


class RankBM25:
    """rank-bm25's ``BM25Okapi``: ``sum_t idf_t * f (k1 + 1) / (f + k1 (1 - b + b |d| / avgdl))``.

    ``idf_t = ln((N - n_t + 0.5) / (n_t + 0.5))``, and ``epsilon`` times the average idf where that is negative (a
    term in more than half of the passages). Where no term is so frequent the scores are those of
    ``BM25(method="atire", idf_method="robertson")``. Passages with a score of 0 or less are never hits.
    """

    def __init__(  # noqa: PLR0913  a constructor may have eight
        self,
        *,
        k1: float = 0.9,
        b: float = 0.4,
        epsilon: float = 0.25,
        stemmer: str | None = "english",
        stopwords: str | None = "english",
    ) -> None:
        check_parameters(k1=k1, b=b)
        self.k1, self.b, self.epsilon = float(k1), float(b), float(epsilon)
        self.analyzer = Analyzer(stemmer=stemmer, stopwords=stopwords)
        self._terms: list[list[str]] | None = None
        self._digest = ""
        self._engine: BM25Okapi | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments, for a manifest."""
        numbers = {"k1": self.k1, "b": self.b, "epsilon": self.epsilon}
        return numbers | {"stemmer": self.analyzer.stemmer, "stopwords": self.analyzer.stopwords}

    @property
    def corpus_digest(self) -> str:
        """Digest of the store this index was fitted on."""
        if self._terms is None:
            raise not_fitted(self)
        return self._digest

    def __len__(self) -> int:
        """Number of passages."""
        if self._terms is None:
            raise not_fitted(self)
        return len(self._terms)

    def fit(self, store: Passages) -> RankBM25:
        """Index title and text of every passage; the terms of the whole corpus stay in memory. Returns itself."""
        batches = progress(store.batches(_BATCH), description="counting terms", total=-(-len(store) // _BATCH))
        terms = [self.analyzer.passage_terms(passage) for batch in batches for passage in batch]
        return self._fit_terms(terms, store.digest)

    def _fit_terms(self, terms: list[list[str]], digest: str) -> RankBM25:
        from rank_bm25 import BM25Okapi  # needed only where this baseline runs

        # rank-bm25 divides by zero where there is no passage, or none with a term
        has_terms = any(terms)
        self._engine = BM25Okapi(terms, k1=self.k1, b=self.b, epsilon=self.epsilon) if has_terms else None
        self._terms, self._digest = terms, digest
        return self

    def search(self, queries: Sequence[str], *, k: int) -> SearchResult:
        """The best k passages of every query, by score, then row; k below 1, or one string: InputError."""
        n_passages = len(self)
        check_search(queries, k=k)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        found = min(k, n_passages)
        for query, text in enumerate(queries):
            rows[query, :found], scores[query, :found] = self._search_one(text, found)
        return order_hits(rows, scores)

    def _search_one(self, text: str, k: int) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, " k"]]:
        terms = self.analyzer.terms(text)
        if self._engine is None or not terms:
            return np.full(k, -1, dtype=np.int64), np.full(k, -np.inf, dtype=np.float32)
        totals = np.asarray(self._engine.get_scores(terms), dtype=np.float32)
        # a stable sort keeps the lower row of equal scores, also at the cut
        rows = np.argsort(-totals, kind="stable")[:k].astype(np.int64)
        is_hit = totals[rows] > 0
        return np.where(is_hit, rows, -1), np.where(is_hit, totals[rows], np.float32(-np.inf))

    def save(self, folder: Path | str) -> None:
        """Write the terms of every passage (JSON lines) and ``rank_bm25.json``: rank-bm25 has no file format itself."""
        folder = Path(folder)
        about = {"format": _FORMAT, "n_passages": len(self), "corpus_digest": self.corpus_digest}
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "terms.jsonl").open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(terms, ensure_ascii=False) + "\n" for terms in self._terms or [])
        (folder / _ABOUT).write_text(json.dumps(about | {"parameters": self.parameters}, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> RankBM25:
        """The index that :meth:`save` wrote, counted again in memory; missing or damaged: IndexCorrupt."""
        folder = Path(folder)
        about = read_about(folder / _ABOUT, form=_FORMAT)
        try:
            with (folder / "terms.jsonl").open(encoding="utf-8") as lines:
                terms = [json.loads(line) for line in lines]
        except (OSError, ValueError) as error:
            raise corrupt(folder, str(error)) from error
        if len(terms) != about["n_passages"]:
            raise corrupt(folder, f"terms of {len(terms)} passages, {about['n_passages']} expected")
        return cls(**about["parameters"])._fit_terms(terms, about["corpus_digest"])
