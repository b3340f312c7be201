"""From overrides to a plain configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragkit import config
from ragkit.errors import ConfigError


def test_a_path_is_accepted_where_a_named_config_is(tmp_path: Path) -> None:
    """Users of Hydra-based systems give a file where a group is wanted, and get an error about groups."""
    file = tmp_path / "my corpus (1), final.tsv"
    file.write_text("id\ttext\ttitle\n")
    composed = config.compose("index", [f"corpus={file}"])
    assert composed["corpus"]["path"] == str(file)


def test_a_misspelt_name_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"neither a file or folder here nor one of .*bm25.*minilm"):
        config.compose("index", ["retriever=minilmm"])


def test_an_unknown_key_is_an_error_that_names_it() -> None:
    """A misspelt key must not become a value that nobody reads."""
    with pytest.raises(ConfigError, match="overwrit"):
        config.compose("index", ["overwrit=true"])


def test_a_word_without_an_equals_sign_is_explained() -> None:
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        config.compose("index", ["overwrite"])


def test_a_sweep_is_every_combination() -> None:
    assert config.sweep(["k=1,2", "out=x", "index_dir=[a,b]", "seed=range(0,2)"]) == [
        ["k=1", "out=x", "index_dir=[a,b]", "seed=0"],
        ["k=1", "out=x", "index_dir=[a,b]", "seed=1"],
        ["k=2", "out=x", "index_dir=[a,b]", "seed=0"],
        ["k=2", "out=x", "index_dir=[a,b]", "seed=1"],
    ]


def test_completion_offers_the_configs_of_a_group() -> None:
    assert "retriever=minilm" in config.complete("index", "retriever=m")


def test_null_leaves_an_optional_group_out_and_is_refused_for_another() -> None:
    """Hydra ends in a traceback for both."""
    assert "reader" not in config.compose("eval", ["reader=null"])
    with pytest.raises(ConfigError, match="needs one of bge, bm25"):
        config.compose("index", ["retriever=null"])
