"""What the README shows works: its `bash` and `python` blocks run in order, in one folder, as a reader would run them.

Blocks marked `sh` set ragkit up from a clone (continuous integration runs those commands themselves); `text` blocks
are output.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _blocks() -> list[tuple[str, str]]:
    return [
        (kind, body) for kind, body in BLOCK.findall((ROOT / "README.md").read_text()) if kind in {"bash", "python"}
    ]


@pytest.mark.timeout(1500)
def test_the_blocks_of_the_readme_run_in_order(tmp_path: Path) -> None:
    """A README that has drifted from the code is the first thing a newcomer meets."""
    blocks = _blocks()
    assert {kind for kind, _ in blocks} == {"bash", "python"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for kind, body in blocks:
        command = ["bash", "-euo", "pipefail", "-c", body] if kind == "bash" else [sys.executable, "-c", body]
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{body}\n--- printed\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert missing == []
