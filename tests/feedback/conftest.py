"""What the tests of feedback share: readers by rule, and a small world with models (scripts/answers_world.py)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def rules() -> ModuleType:
    """tests/feedback/rule_reader.py."""
    return load(HERE / "rule_reader.py")


@pytest.fixture(scope="session")
def worlds(root: Path) -> ModuleType:
    """scripts/answers_world.py."""
    return load(root / "scripts" / "answers_world.py")


@pytest.fixture(scope="session")
def models(root: Path, worlds: ModuleType) -> ModuleType:
    """scripts/answers_models.py, which imports the world by its name."""
    del worlds
    return load(root / "scripts" / "answers_models.py")
