"""What was read and what was left out, for the reader of a file to fill and a pipeline to print."""

from __future__ import annotations

from dataclasses import dataclass, field

from ragkit.errors import FormatError, InputError

_SHOWN = 5  # reasons kept
_ROWS_TO_JUDGE = 1000  # below this many rows the share of skipped ones is judged at the end only
_FEW = 10  # so many skipped rows are always allowed, unless nothing else is left


@dataclass(slots=True)
class ReadReport:
    """Counts of one reading; ``summary()`` says them in a line.

    ``rows`` rows of the source gave ``read`` passages (or examples). ``skipped`` rows were malformed, ``empty`` ones
    had no text; in ``replaced`` rows a NUL or a lone surrogate became U+FFFD; ``long`` passages are longer than
    readers and encoders usually take (:data:`ragkit.corpus.read.LONG_WORDS`). ``reasons`` are the first few faults,
    each starting with ``file:line``.
    """

    rows: int = 0
    read: int = 0
    skipped: int = 0
    empty: int = 0
    replaced: int = 0
    long: int = 0
    reasons: list[str] = field(default_factory=list)

    def refuse(self, error: FormatError, *, on_error: str, max_skipped: float = 1.0) -> None:
        """Raise ``error``, or with ``on_error`` "skip" count it.

        Raises :class:`InputError` once too large a share was skipped.
        """
        if on_error == "raise":
            raise error
        self.skipped += 1
        if len(self.reasons) < _SHOWN:
            self.reasons.append(str(error))
        if self.rows >= _ROWS_TO_JUDGE:
            self.check_share(max_skipped)

    def check_share(self, max_skipped: float) -> None:
        """Raise :class:`InputError` if more than ``max_skipped`` of the rows were skipped, or all of them."""
        if not self.skipped or (self.read and self.skipped <= max(_FEW, max_skipped * self.rows)):
            return
        raise InputError(
            f"{self.skipped:,} of {self.rows:,} rows are malformed, more than the {max_skipped:.0%} that may be "
            f"skipped: is this the right format? {'; '.join(self.reasons)}"
        )

    def summary(self, *, noun: str = "passages") -> str:
        """One line: ``read 997 passages; skipped 3 of 1,000 rows (psgs.tsv:12: found 2 columns, wanted 3)``."""
        parts = [f"read {self.read:,} {noun}"]
        if self.skipped:
            more = "; ..." if self.skipped > len(self.reasons) else ""
            parts.append(f"skipped {self.skipped:,} of {self.rows:,} rows ({'; '.join(self.reasons)}{more})")
        if self.empty:
            parts.append(f"left out {self.empty:,} without text")
        if self.replaced:
            parts.append(f"replaced NUL or lone surrogates by U+FFFD in {self.replaced:,}")
        if self.long:
            parts.append(f"{self.long:,} are long: encoders cut them, splitting (split.size=100) keeps all their words")
        return "; ".join(parts)
