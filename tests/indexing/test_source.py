"""What the configuration says of the corpus."""

from __future__ import annotations

from ragkit.corpus import SplitPolicy
from ragkit.indexing.source import split_policy


def test_nothing_asked_for_leaves_passages_alone_and_any_wish_splits_them() -> None:
    """Silent failure: ready-made passages are cut again by a default, or a stride without a size is ignored."""
    assert split_policy() is None
    assert split_policy(size=50) == SplitPolicy(size=50)
    assert split_policy(stride=10) == SplitPolicy(size=100, stride=10)
    assert split_policy(unit="document") == SplitPolicy(unit="document")
