"""An index of another encoder, refused before training unless it is made anew before anything is searched."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from ragkit.errors import IndexMismatch
from ragkit.retriever import DualEncoder
from ragkit.training.first_search import check_first_search
from ragkit.training.refresh_policy import RefreshPolicy


def test_the_index_of_the_encoder_itself_will_do_and_that_of_another_will_not(
    world: ModuleType, encoder: DualEncoder, index_dir: Path
):
    """Silent failure: queries of one model among the vectors of another find passages, as good as drawn by lot."""
    never = RefreshPolicy("never")
    check_first_search(index_dir, encoder, never, is_refreshed=True)
    world.nudge(encoder, 0)
    with pytest.raises(
        IndexMismatch, match=r"the vectors in .* the retriever of this run is .* \(ragkit index retriever="
    ):
        check_first_search(index_dir, encoder, never, is_refreshed=True)


@pytest.mark.parametrize(
    ("policy", "is_refreshed", "is_good"),
    [
        (RefreshPolicy(100), True, True),
        (RefreshPolicy(100), False, False),  # a frozen retriever never refreshes
        (RefreshPolicy("10-:5"), True, False),
        (RefreshPolicy(100, mode="async"), True, False),
        (RefreshPolicy(100, mode="drift"), True, False),
        (RefreshPolicy(100, scope="hot"), True, False),
    ],
)
def test_another_encoders_index_will_do_where_all_of_it_is_made_anew_first(
    world: ModuleType,
    encoder: DualEncoder,
    index_dir: Path,
    *,
    policy: RefreshPolicy,
    is_refreshed: bool,
    is_good: bool,
):
    world.nudge(encoder, 0)
    if is_good:
        check_first_search(index_dir, encoder, policy, is_refreshed=is_refreshed)
        return
    with pytest.raises(IndexMismatch):
        check_first_search(index_dir, encoder, policy, is_refreshed=is_refreshed)


def test_a_refreshed_index_of_the_same_passage_tower_will_do(world: ModuleType, model_dir: Path, tmp_path: Path):
    """The vectors are the passage tower's: another query tower searches them rightly."""
    from ragkit.corpus import PassageStore
    from ragkit.training.refresh import Refresher

    encoder, index_dir = world.load_encoder(model_dir, shared=False), tmp_path / "index"
    world.make_index(index_dir, encoder)
    world.nudge(encoder, 0)
    with Refresher(RefreshPolicy(1), index_dir, encoder, PassageStore.open(index_dir / "corpus")) as refresher:
        refresher.step(1)
    world.nudge(encoder, 1, only="towers.query")
    check_first_search(index_dir, encoder, RefreshPolicy("never"), is_refreshed=False)
    world.nudge(encoder, 2, only="towers.passage")
    with pytest.raises(IndexMismatch):
        check_first_search(index_dir, encoder, RefreshPolicy("never"), is_refreshed=False)


def test_an_index_by_one_tower_serves_two_that_began_as_copies_of_it(
    world: ModuleType, model_dir: Path, tmp_path: Path
):
    """Query-side training from an encoder with one tower would end by encoding the whole corpus for nothing."""
    from ragkit.corpus import PassageStore
    from ragkit.training.refresh import Refresher

    index_dir = tmp_path / "index"
    world.make_index(index_dir, world.load_encoder(model_dir))
    encoder = world.load_encoder(model_dir, shared=False)
    check_first_search(index_dir, encoder, RefreshPolicy("never"), is_refreshed=True)
    with Refresher(RefreshPolicy("never"), index_dir, encoder, PassageStore.open(index_dir / "corpus")) as refresher:
        world.nudge(encoder, 0, only="towers.query")
        linked = refresher.refresh(1)
        world.nudge(encoder, 1, only="towers.passage")
        whole = refresher.refresh(2)
    assert linked is not None
    assert linked.made.encoded == 0
    assert whole is not None
    assert whole.made.encoded > 0  # the control: other passage weights are other vectors
