"""Property 7: a refresh is due exactly where the published form of the schedule says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import ConfigError
from ragkit.training.refresh_schedule import RefreshSchedule

TABLE = [
    ("10", 45, [0, 10, 20, 30, 40]),
    (10, 45, [0, 10, 20, 30, 40]),
    ("300", 1000, [0, 300, 600, 900]),
    ("0-100:10,100-:500", 1200, [*range(0, 100, 10), 100, 600, 1100]),
    ("0-100:10,100-1000:500", 3000, [*range(0, 100, 10), 100, 600]),
    ("0-1000:500,1000-10000:2000", 10_001, [0, 500, 1000, 3000, 5000, 7000, 9000]),
    ("5-20:7", 100, [5, 12, 19]),
    ("3-4:1, 6-8:1", 100, [3, 6, 7]),
    ("-1", 5000, [0]),
    ("never", 5000, []),
    (None, 5000, []),
]


@pytest.mark.parametrize(("text", "end", "wanted"), TABLE)
def test_due_on_exactly_the_updates_of_the_table(text: str | int | None, end: int, wanted: list[int]) -> None:
    """Silent failure: a range counted from 0 and not from its start, or one that includes its end."""
    schedule = RefreshSchedule.parse(text)
    assert [update for update in range(end) if schedule.due(update)] == wanted


@given(start=st.integers(0, 50), length=st.integers(1, 60), rate=st.integers(1, 30), update=st.integers(0, 200))
def test_a_range_is_due_by_the_definition(start: int, length: int, rate: int, update: int) -> None:
    schedule = RefreshSchedule.parse(f"{start}-{start + length}:{rate}")
    assert schedule.due(update) == (start <= update < start + length and (update - start) % rate == 0)


def test_none_is_due_while_the_retriever_is_frozen_but_the_first() -> None:
    schedule = RefreshSchedule.parse("10")
    assert [update for update in range(60) if schedule.due(update, frozen=30)] == [0, 30, 40, 50]


def test_the_rate_is_that_of_the_range() -> None:
    schedule = RefreshSchedule.parse("0-100:10,200-:500")
    assert [schedule.rate(update) for update in (0, 99, 100, 200, 9999)] == [10, 10, None, 500, 500]


@pytest.mark.parametrize("text", ["", "0", "often", "0-10", "10-5:1", "0-10:0", "0-10:5;10-20:5", "-5", "1.5", "a-b:c"])
def test_a_malformed_schedule_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"refresh schedule"):
        RefreshSchedule.parse(text)


@pytest.mark.parametrize("text", ["0-100:10,50-:5", "100-200:10,0-50:5", "0-:10,100-200:5"])
def test_ranges_that_overlap_or_come_in_no_order_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="overlap or are not in order"):
        RefreshSchedule.parse(text)
