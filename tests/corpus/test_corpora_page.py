"""docs/corpora.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ragkit.corpus import SOURCES


def test_the_page_names_every_format_and_no_other(root: Path) -> None:
    """A table written by hand drifts from the one in the code."""
    page = (root / "docs" / "corpora.md").read_text(encoding="utf-8")
    formats = page.partition("## Formats")[2].partition("## Splitting")[0]
    assert re.findall(r"^\| `(\w+)` \|", formats, re.MULTILINE) == list(SOURCES)


def test_the_pages_example_runs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its assertions are what the reader is told."""
    page = (root / "docs" / "corpora.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks[0], "docs/corpora.md", "exec"), {})
    assert (tmp_path / "facts.store" / "store.json").is_file()
