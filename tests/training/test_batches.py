"""The order of the data: every item once an epoch, the same for any number of processes."""

from __future__ import annotations

import numpy as np
import pytest

from ragkit.errors import ConfigError
from ragkit.training.batches import BatchPlan


def test_every_epoch_has_every_item_once_in_an_order_of_its_own():
    plan = BatchPlan(23, 6, seed=0)
    epochs = [np.concatenate([plan.batch(epoch * 4 + step) for step in range(4)]).tolist() for epoch in range(3)]
    assert plan.steps_per_epoch == 4
    assert all(sorted(order) == list(range(23)) for order in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] == np.concatenate([BatchPlan(23, 6, seed=0).batch(step) for step in range(4)]).tolist()
    assert epochs[0] != np.concatenate([BatchPlan(23, 6, seed=1).batch(step) for step in range(4)]).tolist()


def test_batches_of_an_epoch_differ_by_at_most_one_item():
    """Guards against a last batch of one question, whose in-batch loss says nothing."""
    assert [len(BatchPlan(1896, 16, 0).batch(step)) for step in range(119)].count(15) == 8
    assert BatchPlan(1896, 16, 0).smallest == 15
    assert [len(BatchPlan(17, 16, 0).batch(step)) for step in range(2)] == [9, 8]
    assert len(BatchPlan(5, 16, 0).batch(3)) == 5


@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_of_all_processes_are_the_batch(world: int):
    plan = BatchPlan(23, 6, seed=0)
    for step in range(9):
        shares = [plan.shares(step, parts=2, rank=rank, world=world) for rank in range(world)]
        parts = [np.concatenate([share[part] for share in shares]) for part in range(2)]
        assert np.concatenate(parts).tolist() == plan.batch(step).tolist()
        assert max(len(share[0]) for share in shares) - min(len(share[0]) for share in shares) <= 1


def test_batches_too_small_for_the_processes_and_no_items_are_errors():
    with pytest.raises(ConfigError, match="batch of 5 items cannot be divided among 3 processes times 2 parts"):
        BatchPlan(23, 6, seed=0).check(parts=2, world=3)
    BatchPlan(23, 6, seed=0).check(parts=2, world=2)
    with pytest.raises(ConfigError, match="0 items"):
        BatchPlan(0, 6, seed=0).check(parts=1, world=1)
