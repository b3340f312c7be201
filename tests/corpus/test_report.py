"""What was left out is counted, shown, and limited."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragkit.corpus import ReadReport
from ragkit.errors import FormatError, InputError


def test_the_summary_names_the_first_faults_and_the_share() -> None:
    """`skipped 3` without a place cannot be acted on."""
    report = ReadReport(rows=1000, read=993)
    for line in range(1, 8):
        report.refuse(FormatError(Path("f.tsv"), line, "bad"), on_error="skip")
    assert report.summary() == (
        "read 993 passages; skipped 7 of 1,000 rows (f.tsv:1: bad; f.tsv:2: bad; f.tsv:3: bad; f.tsv:4: bad; "
        "f.tsv:5: bad; ...)"
    )
    assert ReadReport(rows=2, read=2).summary(noun="questions") == "read 2 questions"


def test_every_count_is_in_the_summary() -> None:
    """A dropped passage that nobody hears of is a wrong corpus."""
    line = ReadReport(rows=9, read=9, empty=2, replaced=3, long=4).summary()
    assert "left out 2 without text" in line
    assert "by U+FFFD in 3" in line
    assert "4 are long" in line


def test_without_leave_to_skip_the_first_fault_is_raised() -> None:
    """The default must never leave a row out."""
    with pytest.raises(FormatError, match="f:1: bad"):
        ReadReport().refuse(FormatError("f", 1, "bad"), on_error="raise")


def test_skipping_stops_when_too_much_is_skipped() -> None:
    """A file read in the wrong format would otherwise give an almost empty corpus and exit with 0."""
    report = ReadReport(rows=1000, read=800, skipped=100)
    with pytest.raises(InputError, match=r"101 of 1,000 rows are malformed, more than the 10% .* f:1: bad"):
        report.refuse(FormatError("f", 1, "bad"), on_error="skip", max_skipped=0.1)


def test_a_few_faults_of_a_small_file_are_allowed_but_not_all_of_it() -> None:
    """Three bad rows of ten is a small file, not a wrong format; ten of ten is one."""
    ReadReport(rows=10, read=7, skipped=3).check_share(0.1)
    with pytest.raises(InputError, match="11 of 20 rows"):
        ReadReport(rows=20, read=9, skipped=11).check_share(0.1)
    with pytest.raises(InputError, match="2 of 2 rows"):
        ReadReport(rows=2, skipped=2).check_share(1.0)
