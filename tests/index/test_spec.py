"""The specification of an index refuses what cannot be built before anything is encoded."""

from __future__ import annotations

import pytest

from ragkit.errors import ConfigError
from ragkit.index import IndexSpec


def test_a_named_kind_becomes_a_faiss_factory_string() -> None:
    assert IndexSpec().factory(10) == "Flat"
    assert IndexSpec("hnsw", links=16).factory(10) == "HNSW16,Flat"
    assert IndexSpec("IVF8,SQ8").factory(10) == "IVF8,SQ8"


def test_ivf_chooses_four_times_the_root_of_the_count_but_leaves_every_list_39_vectors() -> None:
    """Silent failure: FAISS trains more lists than it has vectors for and only prints a warning."""
    assert IndexSpec("ivf").factory(1_000_000) == "IVF4000,Flat"
    assert IndexSpec("ivf").factory(390) == "IVF10,Flat"
    assert IndexSpec("ivf").factory(5) == "IVF1,Flat"


def test_more_lists_than_vectors_is_refused_with_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"nlist=100.*there are 99"):
        IndexSpec("ivf", nlist=100).factory(99)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "flatt"}, "unknown index kind 'flatt'; choose from .*flat.*hnsw.*ivf"),
        ({"kind": ""}, "unknown index kind ''"),
        ({"metric": "l2"}, "unknown metric 'l2'; choose from .*cosine.*inner_product"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"search": "nprobe 4"}, "search must read like"),
        ({"nlist": 0}, "nlist must be at least 1, not 0"),
        ({"train_rows": -5}, "train_rows must be at least 1"),
    ],
)
def test_a_wrong_field_is_named_with_its_choices(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        IndexSpec(**fields)  # type: ignore[arg-type]
