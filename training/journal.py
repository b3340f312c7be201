"""The files a run writes as it goes: log.jsonl, one JSON object a line, and metrics.json at the end."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Journal:
    """Appends to ``log.jsonl``; lines after ``step``, and a line that a killed process left half written, go first."""

    def __init__(self, path: Path, *, step: int) -> None:
        self.path = path
        kept = [line for line in _lines(path) if line["step"] <= step] if step else []
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line; a number that is not finite becomes null, which JSON can hold."""
        clean = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in line.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(text))
        except ValueError:  # the last line of a killed process
            break
    return found


def write_text(path: Path, text: str) -> None:
    """Write a small file so that it is the old or the new one, whole, whenever the process dies."""
    aside = path.with_name(f".{path.name}.unfinished")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
