"""From text to the terms that BM25 counts: words, stop words, stems."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from ragkit.errors import ConfigError
from ragkit.types import Passage

_WORD = re.compile(r"\b\w\w+\b")  # bm25s's and scikit-learn's pattern: single letters and digits are no words
_MEMO_LIMIT = 1_000_000  # words


@runtime_checkable
class Passages(Protocol):
    """What BM25 reads of a passage store."""

    @property
    def digest(self) -> str:
        """Digest of the ordered content."""
        ...

    def __len__(self) -> int:
        """Number of passages."""
        ...

    def batches(self, size: int) -> Iterator[list[Passage]]:
        """The passages in order, ``size`` at a time."""
        ...


class Analyzer:
    """Splits a text into terms: lower case, words of two signs or more, without stop words, stemmed.

    ``stemmer`` is one of Snowball's languages and ``stopwords`` one of bm25s's lists, or None for neither. Stop
    words go before stemming. Text is NFC-normalised first, so that both ways to write "ö" are one term.
    """

    def __init__(self, *, stemmer: str | None = "english", stopwords: str | None = "english") -> None:
        self.stemmer, self.stopwords = stemmer, stopwords
        self._stem = _stemmer(stemmer)
        self._stop_words = _stop_words(stopwords)
        self._memo: dict[str, str] = {}

    def terms(self, text: str) -> list[str]:
        """The terms of the text in order, with repetitions."""
        words = _WORD.findall(unicodedata.normalize("NFC", text).lower())
        memo = self._memo
        return [term for term in [memo[word] if word in memo else self._term(word) for word in words] if term]

    def passage_terms(self, passage: Passage) -> list[str]:
        """The terms of title and text."""
        return self.terms(f"{passage.title} {passage.text}")

    def _term(self, word: str) -> str:
        if len(self._memo) >= _MEMO_LIMIT:
            self._memo.clear()
        term = "" if word in self._stop_words else word
        if term and self._stem is not None:
            term = self._stem(term)
        self._memo[word] = term
        return term


def _stemmer(language: str | None) -> Callable[[str], str] | None:
    if language is None:
        return None
    import Stemmer  # needed only where stems are wanted

    if language not in Stemmer.algorithms():
        raise ConfigError(f"unknown stemmer {language!r}; choose from {Stemmer.algorithms()} or null")
    stem: Callable[[str], str] = Stemmer.Stemmer(language).stemWord
    return stem


def _stop_words(language: str | None) -> frozenset[str]:
    if language is None:
        return frozenset()
    from bm25s import stopwords  # importing bm25s takes 0.6 s

    lists = {name.removeprefix("STOPWORDS_").lower(): name for name in vars(stopwords) if name.startswith("STOPWORDS_")}
    lists["english"], lists["english_plus"] = lists.pop("en"), lists.pop("en_plus")
    if language not in lists:
        raise ConfigError(f"unknown list of stop words {language!r}; choose from {sorted(lists)} or null")
    return frozenset(getattr(stopwords, lists[language]))
