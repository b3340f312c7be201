"""What every test shares: one torch thread, no model hub, and the real data where there is some."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# before any test imports them: tiny models are several times as fast on one thread, and no test may reach a hub
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    import torch  # the environment above must be set first

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real questions and passages that some tests use; they skip where it is absent."""
    folder = Path(os.environ.get("RAGKIT_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "corpus.tsv").is_file():
        pytest.skip(f"no real data in {folder}; set RAGKIT_TEST_DATA to a folder with corpus.tsv and nq.test.jsonl")
    return folder
