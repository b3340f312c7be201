"""When the index is refreshed: ``start-end:rate`` ranges of optimizer updates, as the Atlas recipes write them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ragkit.errors import ConfigError

_RANGE = re.compile(r"^(\d+)-(\d*):(\d+)$")


@dataclass(frozen=True, slots=True)
class RefreshRange:
    """Updates ``start`` to ``end`` (exclusive; None: without end), due every ``rate`` counted from ``start``."""

    start: int
    end: int | None
    rate: int

    def covers(self, update: int) -> bool:
        """Whether the update lies inside."""
        return self.start <= update and (self.end is None or update < self.end)


@dataclass(frozen=True, slots=True)
class RefreshSchedule:
    """The ranges of a schedule; none at all is "never".

    Updates are counted from 0, and update u is due *before* it is made: u updates are finished then.

    >>> schedule = RefreshSchedule.parse("0-100:10,100-:500")
    >>> [update for update in range(1200) if schedule.due(update)]
    [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 600, 1100]
    """

    ranges: tuple[RefreshRange, ...] = ()

    @classmethod
    def parse(cls, schedule: str | int | None) -> RefreshSchedule:
        """Of ``"0-100:10,100-:500"``, a plain number (that rate throughout), or ``"never"``, None.

        -1 is Atlas' way to write "at update 0 alone". Raises ConfigError for anything else.
        """
        text = "never" if schedule is None else str(schedule).replace(" ", "")
        if text == "never":
            return cls()
        if text == "-1":
            return cls((RefreshRange(0, None, 1 << 32),))
        if text.isdecimal():
            text = f"0-:{text}"
        ranges = tuple(_parse_range(part, whole=f"{schedule}") for part in text.split(","))
        for one, other in zip(ranges, ranges[1:], strict=False):
            if one.end is None or other.start < one.end:
                raise ConfigError(f"refresh schedule {schedule!r}: its ranges overlap or are not in order")
        return cls(ranges)

    def due(self, update: int, *, frozen: int = 0) -> bool:
        """Whether a refresh is due when ``update`` updates are finished: start <= u < end and rate divides u - start.

        While the retriever is frozen, 0 < u < ``frozen``, none is.
        """
        if 0 < update < frozen:
            return False
        return any((update - one.start) % one.rate == 0 for one in self.ranges if one.covers(update))

    def rate(self, update: int) -> int | None:
        """The updates between two refreshes of the range that the update lies in; None outside all ranges."""
        return next((one.rate for one in self.ranges if one.covers(update)), None)


def _parse_range(part: str, *, whole: str) -> RefreshRange:
    found = _RANGE.match(part)
    if found is None:
        raise ConfigError(
            f"refresh schedule {whole!r}: {part!r} is not start-end:rate; write for instance "
            '"0-100:10,100-:500", a plain number of updates, or never'
        )
    start, end, rate = int(found[1]), int(found[2]) if found[2] else None, int(found[3])
    if rate < 1 or (end is not None and end <= start):
        raise ConfigError(f"refresh schedule {whole!r}: {part!r} needs an end above its start and a rate of 1 or more")
    return RefreshRange(start, end, rate)
