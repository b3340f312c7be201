"""The folders of the repository become one package, `ragkit`, and nothing else."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PIPELINES = ("indexing", "training", "eval")
MAPPED = {"ragkit": "ragkit", "conf": "ragkit/conf", **{name: f"ragkit/{name}" for name in PIPELINES}}


@pytest.fixture(scope="module")
def wheel_names(root: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    out, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for name in (*MAPPED, "pyproject.toml", "README.md", "LICENSE"):  # aside: a stale build/ would end up in the wheel
        place = root / name
        (shutil.copytree if place.is_dir() else shutil.copy)(place, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def _imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_only_top_level_of_the_wheel_is_ragkit(wheel_names: set[str]) -> None:
    """A top-level package called `eval` or `conf` would shadow other people's modules."""
    tops = {name.split("/")[0] for name in wheel_names if ".dist-info/" not in name}
    assert tops == {"ragkit"}


def test_every_module_and_config_on_disk_is_in_the_wheel(wheel_names: set[str], root: Path) -> None:
    """A forgotten sub-package works in an editable install and is missing for every user."""
    missing = [
        str(file.relative_to(root))
        for folder, packaged in MAPPED.items()
        for pattern in ("*.py", "*.yaml", "*.tsv", "*.jsonl", "py.typed")
        for file in (root / folder).rglob(pattern)
        if f"{packaged}/{file.relative_to(root / folder)}" not in wheel_names
    ]
    assert missing == []


def test_the_core_imports_no_pipeline_and_no_pipeline_imports_another(root: Path) -> None:
    """Only the command line (and the demo, which tells the whole story) may know all of them."""
    wrong = [
        f"{file.relative_to(root)} imports {name}"
        for folder in ("ragkit", *PIPELINES)
        for file in (root / folder).rglob("*.py")
        if file.name not in {"cli.py", "demo.py"}
        for name in _imports(file)
        for pipeline in PIPELINES
        if name.startswith(f"ragkit.{pipeline}") and pipeline != folder
    ]
    assert wrong == []


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_folder_refuses_to_be_imported_by_its_folder_name(name: str, root: Path) -> None:
    """From the repository root `import eval` would find the folder and load a second copy of every class."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert f"this folder is the package ragkit.{name}" in done.stderr
