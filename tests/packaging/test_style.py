"""The numbers of the house style, so that they hold without anybody counting."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    file for folder in ("ragkit", "indexing", "training", "eval") for file in (ROOT / folder).rglob("*.py")
)
FILE_LINES, FUNCTION_LINES = 300, 50
EMPTY_NAMES = {"utils", "helpers", "common", "misc", "manager"}


@pytest.mark.parametrize("file", SOURCES, ids=[str(file.relative_to(ROOT)) for file in SOURCES])
def test_a_file_and_its_functions_stay_small_enough_to_read(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= FILE_LINES
    assert file.stem not in EMPTY_NAMES
    long = [
        f"{node.name}: {(node.end_lineno or node.lineno) - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION_LINES
    ]
    assert long == []
