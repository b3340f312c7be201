"""What the tests of training share: a toy task, and runs of it in processes of their own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from ragkit.retriever import DualEncoder

from .answers_place import Place

HERE = Path(__file__).parent
Run = Callable[..., subprocess.CompletedProcess[str]]


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """tests/training/toy.py."""
    return load_script("toy")


@pytest.fixture(scope="session")
def run_script() -> Run:
    """Run a script of this folder: ``run_script("toy", out, "steps=12", processes=2, failpoint="step:3")``."""

    def run(name: str, *words: object, processes: int = 1, failpoint: str = "") -> subprocess.CompletedProcess[str]:
        # no console script: the folder's torchrun may belong to another environment than this interpreter
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *(launcher if processes > 1 else []), str(HERE / f"{name}.py"), *map(str, words)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAGKIT_FAILPOINT": failpoint}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)

    return run


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """tests/training/tiny.py."""
    return load_script("tiny")


@pytest.fixture(scope="session")
def model_dir(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights and dropout 0.1."""
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def world() -> ModuleType:
    """tests/training/refreshing.py."""
    return load_script("refreshing")


@pytest.fixture
def encoder(world: ModuleType, model_dir: Path) -> DualEncoder:
    """The tiny encoder that an index follows."""
    return world.load_encoder(model_dir)


@pytest.fixture
def index_dir(world: ModuleType, encoder: DualEncoder, tmp_path: Path) -> Path:
    """An index of the world's passages by :func:`encoder`."""
    world.make_index(tmp_path / "index", encoder)
    return tmp_path / "index"


@pytest.fixture(scope="session")
def place(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A made-up world with an index; every test gives its runs names of their own."""
    return Place(root / "scripts", tmp_path_factory.mktemp("atlas"))
