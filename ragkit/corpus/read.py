"""From a file or folder in any corpus format to passages, and from there to a store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from ragkit.corpus.report import ReadReport
from ragkit.corpus.sniff import SOURCES, sniff_corpus
from ragkit.corpus.sources.rows import BadRow, Row
from ragkit.corpus.sources.stores import link_store
from ragkit.corpus.split import SplitPolicy, split_document
from ragkit.corpus.store import PassageStore
from ragkit.corpus.write import write_store
from ragkit.errors import DuplicateIds, FormatError, InputError
from ragkit.types import Document, Passage

LONG_WORDS = 350  # about 512 tokens of English: what most encoders take at most
_UNFIT = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a corpus is read.

    ``format`` is a name in :data:`ragkit.corpus.SOURCES`, sniffed where it is None. ``on_error`` "skip" leaves out
    malformed rows, up to a share of ``max_skipped`` (and always up to ten). ``empty`` says what becomes of passages
    without text: "drop" counts them, "keep" keeps them, "raise" calls them malformed. ``split`` None splits documents
    into passages of 100 words and leaves passages alone; a policy splits both.
    """

    format: str | None = None
    on_error: str = "raise"
    max_skipped: float = 0.1
    empty: str = "drop"
    split: SplitPolicy | None = None

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in SOURCES:
            raise InputError(f"unknown corpus format {self.format!r}; choose from {sorted(SOURCES)}")
        if self.on_error not in ("raise", "skip"):
            raise InputError(f"on_error is {self.on_error!r}; choose from ['raise', 'skip']")
        if self.empty not in ("drop", "keep", "raise"):
            raise InputError(f"empty is {self.empty!r}; choose from ['drop', 'keep', 'raise']")
        if not 0 <= self.max_skipped <= 1:
            raise InputError(f"max_skipped is {self.max_skipped}; it is a share of the rows, from 0 to 1")


def read_corpus(
    path: Path | str, *, options: ReadOptions | None = None, report: ReadReport | None = None
) -> Iterator[Passage]:
    """The passages of ``path``, lazily and in order; ``report`` counts what was read and what was left out.

    Raises :class:`InputError` at once where nothing is there or questions are, and :class:`FormatError` naming file,
    line and reason at a malformed row (unless ``on_error`` is "skip").
    """
    options = options or ReadOptions()
    report = report if report is not None else ReadReport()
    return (passage for _, passage in _located(path, options=options, report=report))


def store_corpus(
    path: Path | str,
    folder: Path,
    *,
    options: ReadOptions | None = None,
    report: ReadReport | None = None,
    overwrite: bool = False,
) -> PassageStore:
    """Read ``path`` and write it as a store in ``folder``: :func:`read_corpus`, then :func:`write_store`.

    A store, or an index directory, whose passages are to stay as they are is hard-linked. Raises
    :class:`DuplicateIds` with the lines of the first few, and :class:`InputError` where there are no passages.
    """
    options = options or ReadOptions()
    report = report if report is not None else ReadReport()
    name = options.format or sniff_corpus(path)
    if name == "store" and options.split is None:
        store = link_store(Path(path), folder, overwrite=overwrite)
        report.rows = report.read = len(store)
        return store
    passages = read_corpus(path, options=options, report=report)
    first = next(passages, None)
    if first is None:
        raise InputError(f"{path} gives no passages to index ({report.summary()})")
    try:
        return write_store(chain((first,), passages), folder, overwrite=overwrite)
    except DuplicateIds as error:
        wanted = {row for _, rows in error.duplicates for row in rows}
        again = enumerate(islice(_located(path, options=options, report=ReadReport()), max(wanted) + 1))
        places = {row: place for row, (place, _) in again if row in wanted}
        raise DuplicateIds(error.duplicates, places) from None


def clean_text(text: str) -> str:
    r"""``text`` with U+FFFD in place of NUL and of lone surrogates, which no tokenizer and no file can take.

    >>> clean_text("a\x00b")
    'a\ufffdb'
    """
    return _UNFIT.sub("\ufffd", text)


def _located(path: Path | str, *, options: ReadOptions, report: ReadReport) -> Iterator[tuple[str, Passage]]:
    name = options.format or sniff_corpus(path)
    if name != "hub" and not Path(path).exists():
        raise InputError(f"there is no file or folder {path}")
    rows = SOURCES[name].rows(Path(path))
    return _passages(rows, options=options, report=report)


def _passages(rows: Iterator[Row], *, options: ReadOptions, report: ReadReport) -> Iterator[tuple[str, Passage]]:
    for row in rows:
        report.rows += 1
        value = _checked(row.value, options=options, report=report)
        if isinstance(value, BadRow):
            error = FormatError(row.path, row.line, value.reason)
            report.refuse(error, on_error=options.on_error, max_skipped=options.max_skipped)
        elif value is not None:
            place = str(row.path) if row.line is None else f"{row.path}:{row.line}"
            for passage in _split(value, options.split):
                report.read += 1
                report.long += passage.text.count(" ") >= LONG_WORDS
                yield place, passage
    report.check_share(options.max_skipped)


def _split(value: Passage | Document, policy: SplitPolicy | None) -> Iterator[Passage]:
    if policy is None and isinstance(value, Passage):
        return iter((value,))
    return split_document(value, policy or SplitPolicy())


def _fault(value: Passage | Document, *, options: ReadOptions) -> str:
    if not value.id:
        return "the id is empty"
    if _UNFIT.search(value.id):
        return f"the id {value.id!r} holds a NUL or a lone surrogate; an id is kept as it is or not at all"
    return "the text is empty" if options.empty == "raise" and not value.text.strip() else ""


def _is_kept_without_text(value: Passage | Document, *, options: ReadOptions) -> bool:
    """Only a passage that is not split can stay; with "drop" only if it has a title to be found by."""
    if isinstance(value, Document) or options.split is not None:
        return False
    return options.empty == "keep" or bool(value.title.strip())


def _checked(
    value: Passage | Document | BadRow, *, options: ReadOptions, report: ReadReport
) -> Passage | Document | BadRow | None:
    """The record with clean text; what is wrong with it; or None where it is left out for want of text."""
    if isinstance(value, BadRow):
        return value
    fault = _fault(value, options=options)
    if fault:
        return BadRow(fault)
    if not value.text.strip() and not _is_kept_without_text(value, options=options):
        report.empty += 1
        return None
    if _UNFIT.search(value.text) or _UNFIT.search(value.title):
        report.replaced += 1
        return type(value)(id=value.id, text=clean_text(value.text), title=clean_text(value.title))
    return value
