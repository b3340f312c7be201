"""BM25 over titles and texts, on bm25s's index: scores are computed once, at indexing, and memory-mapped after."""

from __future__ import annotations

import json
import logging
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Int64

from ragkit.errors import ConfigError, IndexCorrupt, InputError
from ragkit.progress import progress
from ragkit.retriever.analyze import Analyzer, Passages
from ragkit.types import SearchResult

METHODS = ("lucene", "robertson", "atire")  # bm25s's variants in which a passage without the term scores 0
_FORMAT = 1
_BATCH = 1024  # passages read at once
_LARGE = 20_000  # passages from which indexing takes over two seconds
_ABOUT = "bm25.json"
_ARRAYS = ("data.csc.index.npy", "indices.csc.index.npy", "indptr.csc.index.npy")  # bm25s's names
_VOCABULARY = "vocab.index.json"


@dataclass(frozen=True, slots=True)
class _Fitted:
    """bm25s's index: ``data[entry]`` scores a term in passage ``indices[entry]``; term t owns indptr[t]:indptr[t+1]."""

    data: Float32[np.ndarray, " entry"]
    indices: Int32[np.ndarray, " entry"]
    indptr: Int64[np.ndarray, " term_end"]
    vocabulary: dict[str, int]
    n_passages: int
    digest: str


class BM25:
    """Lucene's BM25 by default: ``sum_t ln(1 + (N - n_t + 0.5) / (n_t + 0.5)) * f / (f + k1 (1 - b + b |d| / avgdl))``.

    k1 0.9 and b 0.4 are those of the published DPR baselines (for long documents 1.2 and 0.75 are usual).
    ``idf_method`` mixes one variant's idf with another's term weight (None: the same). A passage that shares no
    term with the query is never a hit, nor is any when the query has no known term.

    >>> from ragkit.types import Passage
    >>> class Two:
    ...     digest = "0"
    ...     def __len__(self): return 2
    ...     def batches(self, size): yield [Passage("a", "the red fox"), Passage("b", "not here", title="Foxes")]
    >>> BM25().fit(Two()).search(["a fox", "red foxes", "zebra"], k=3).rows.tolist()
    [[0, 1, -1], [0, 1, -1], [-1, -1, -1]]
    """

    def __init__(  # noqa: PLR0913  a constructor may have eight
        self,
        *,
        k1: float = 0.9,
        b: float = 0.4,
        method: str = "lucene",
        idf_method: str | None = None,
        stemmer: str | None = "english",
        stopwords: str | None = "english",
    ) -> None:
        check_parameters(k1=k1, b=b)
        for name in (method, idf_method or method):
            if name not in METHODS:
                raise ConfigError(f"unknown BM25 method {name!r}; choose from {list(METHODS)}")
        self.k1, self.b, self.method, self.idf_method = float(k1), float(b), method, idf_method or method
        self.analyzer = Analyzer(stemmer=stemmer, stopwords=stopwords)
        self._fitted: _Fitted | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments, for a manifest."""
        numbers = {"k1": self.k1, "b": self.b, "method": self.method, "idf_method": self.idf_method}
        return numbers | {"stemmer": self.analyzer.stemmer, "stopwords": self.analyzer.stopwords}

    @property
    def corpus_digest(self) -> str:
        """Digest of the store this index was fitted on."""
        return self._index.digest

    def __len__(self) -> int:
        """Number of passages."""
        return self._index.n_passages

    def fit(self, store: Passages) -> BM25:
        """Index title and text of every passage, reading the store once in order; returns itself.

        What stays in memory while it runs is 8 bytes a term, not the texts.
        """
        vocabulary: dict[str, int] = {}
        passages: list[list[int]] = []
        batches = progress(store.batches(_BATCH), description="counting terms", total=-(-len(store) // _BATCH))
        for batch in batches:
            for passage in batch:
                terms = self.analyzer.passage_terms(passage)
                passages.append([vocabulary.setdefault(term, len(vocabulary)) for term in terms])
        data, indices, indptr = self._score(passages, vocabulary)
        self._fitted = _Fitted(data, indices, indptr, vocabulary, len(passages), store.digest)
        return self

    def _score(self, passages: list[list[int]], vocabulary: dict[str, int]) -> list[np.ndarray]:
        if not vocabulary:  # no passages, or none with a term: bm25s raises on both
            return [np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(1, np.int64)]
        import bm25s  # takes 0.6 s

        # importing it turns on its debug messages, which would reach the terminal of every user
        logging.getLogger("bm25s").setLevel(logging.NOTSET)
        engine = bm25s.BM25(k1=self.k1, b=self.b, method=self.method, idf_method=self.idf_method)
        shows_bars = len(passages) > _LARGE and sys.stderr.isatty()
        engine.index((passages, vocabulary), create_empty_token=False, show_progress=shows_bars)
        kinds = zip(("data", "indices", "indptr"), (np.float32, np.int32, np.int64), strict=True)
        arrays = [np.ascontiguousarray(engine.scores[name], dtype=kind) for name, kind in kinds]
        for array in arrays:
            array.flags.writeable = False  # as the memory-mapped ones are, so the search is compiled once
        return arrays

    def search(self, queries: Sequence[str], *, k: int) -> SearchResult:
        """The best k passages of every query, by score, then row; only passages that share a term with the query.

        A term that the query has twice counts twice. k below 1, or one string for queries: InputError.
        """
        index = self._index
        check_search(queries, k=k)
        known = [[index.vocabulary[t] for t in self.analyzer.terms(q) if t in index.vocabulary] for q in queries]
        from ragkit.retriever.bm25_kernel import search_postings  # imports numba

        postings = (index.data, index.indices, index.indptr)
        return SearchResult(*search_postings(postings, known, n_passages=index.n_passages, k=k))

    def save(self, folder: Path | str) -> None:
        """Write the index: bm25s's own files (``bm25s.BM25.load`` opens them) and ``bm25.json``."""
        index, folder = self._index, Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in zip(_ARRAYS, (index.data, index.indices, index.indptr), strict=True):
            np.save(folder / name, array, allow_pickle=False)
        (folder / _VOCABULARY).write_text(json.dumps(index.vocabulary, ensure_ascii=False), encoding="utf-8")
        bm25s_parameters = {"k1": self.k1, "b": self.b, "delta": 0.5, "method": self.method}
        bm25s_parameters |= {"idf_method": self.idf_method, "dtype": "float32", "int_dtype": "int32"}
        bm25s_parameters |= {"num_docs": index.n_passages, "backend": "numba"}
        (folder / "params.index.json").write_text(json.dumps(bm25s_parameters, indent=2), encoding="utf-8")
        about = {"format": _FORMAT, "n_passages": index.n_passages, "corpus_digest": index.digest}
        (folder / _ABOUT).write_text(json.dumps(about | {"parameters": self.parameters}, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> BM25:
        """The index that :meth:`save` wrote, memory-mapped; a missing or damaged file is IndexCorrupt.

        Rows are checked here, in one pass over them, because the search writes where they point.
        """
        folder = Path(folder)
        about = read_about(folder / _ABOUT, form=_FORMAT)
        try:
            data, indices, indptr = (np.asarray(np.load(folder / name, mmap_mode="r")) for name in _ARRAYS)
            vocabulary = json.loads((folder / _VOCABULARY).read_text(encoding="utf-8"))
        except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:  # a header is read as Python
            raise corrupt(folder, str(error)) from error
        kinds = [f"{array.dtype}[{array.ndim}]" for array in (data, indices, indptr)]
        if kinds != ["float32[1]", "int32[1]", "int64[1]"] or not len(indptr):
            raise corrupt(folder, f"its arrays are of other kinds: {kinds}")
        if not len(data) == len(indices) == indptr[-1] or len(indptr) != len(vocabulary) + 1:
            sizes = f"{len(data)} scores, {len(indices)} rows, {len(indptr) - 1} terms, {len(vocabulary)} words"
            raise corrupt(folder, f"its files do not belong together: {sizes}")
        for fault in _faults((data, indices, indptr), vocabulary, n_passages=about["n_passages"]):
            raise corrupt(folder, fault)
        retriever = cls(**about["parameters"])
        retriever._fitted = _Fitted(data, indices, indptr, vocabulary, about["n_passages"], about["corpus_digest"])
        return retriever

    @property
    def _index(self) -> _Fitted:
        if self._fitted is None:
            raise not_fitted(self)
        return self._fitted


def _faults(
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray], vocabulary: dict[str, int], *, n_passages: int
) -> Iterator[str]:
    """What the compiled search, which checks nothing, would follow out of its arrays: rows, term ends, term numbers."""
    _, indices, indptr = arrays
    if len(indices) and indices.view(np.uint32).max() >= n_passages:  # as an unsigned number a negative row is large
        yield f"{_ARRAYS[1]} names rows that are not among its {n_passages} passages"
    if indptr[0] != 0 or (np.diff(indptr) < 0).any():
        yield f"{_ARRAYS[2]} does not rise from 0"
    if vocabulary and not 0 <= min(vocabulary.values()) <= max(vocabulary.values()) < len(indptr) - 1:
        yield f"{_VOCABULARY} numbers terms that are not among its {len(indptr) - 1}"


def check_parameters(*, k1: float, b: float) -> None:
    """Raise ConfigError unless k1 >= 0 and 0 <= b <= 1."""
    if not (k1 >= 0 and 0 <= b <= 1):
        raise ConfigError(f"k1 is {k1} and b is {b}; BM25 needs k1 >= 0 and b between 0 and 1")


def check_search(queries: Sequence[str], *, k: int) -> None:
    """Raise InputError unless k >= 1 and the queries are a list: a string would be searched letter by letter."""
    if isinstance(queries, str):
        raise InputError(f"search takes a list of queries; got the one string {queries[:60]!r}: write [query]")
    if k < 1:
        raise InputError(f"k is {k}; a search returns k >= 1 passages")


def not_fitted(retriever: object) -> InputError:
    """The error of a retriever that was neither fitted nor loaded."""
    name = type(retriever).__name__
    return InputError(f"this {name} holds no passages yet; call fit(store), or {name}.load(folder)")


def corrupt(folder: Path, reason: str) -> IndexCorrupt:
    """The error of a folder that cannot be loaded, with its remedy."""
    return IndexCorrupt(
        f"{folder} is not a whole BM25 index ({reason}); build it again with: ragkit index ... overwrite=true"
    )


def read_about(path: Path, *, form: int) -> dict[str, Any]:
    """The JSON file that describes a saved index; missing, damaged or of another format: IndexCorrupt."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        found = {key: about[key] for key in ("format", "n_passages", "corpus_digest", "parameters")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise corrupt(path.parent, f"{path.name}: {error!r}") from error
    if found["format"] != form:
        raise corrupt(path.parent, f"format {found['format']}, this version reads {form}")
    return found
