"""Randomness by name: repeatable, independent, and without a trace."""

from __future__ import annotations

import torch

from ragkit.seeding import derive_seed, global_randomness, make_generator, random_state, replayed_randomness

CPU = torch.device("cpu")


def test_other_names_give_other_seeds_and_the_same_name_the_same():
    """Guards against joined names that collide: ("a", 11) and ("a1", 1) are two purposes."""
    names = [(), ("a", 11), ("a1", 1), ("a", "11"), ("a", 1, 1), (0,), ("0",), ("a/int:1",), ("a", 1)]
    seeds = [derive_seed(0, *name) for name in names] + [derive_seed(1, "a", 1)]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [derive_seed(0, *name) for name in names] + [derive_seed(1, "a", 1)]
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_global_randomness_repeats_inside_and_leaves_no_trace_outside():
    """Guards the caller's own random numbers: training must not reseed them."""
    before = torch.random.get_rng_state()
    drawn = []
    for _ in range(2):
        with global_randomness(5, CPU):
            drawn.append(torch.rand(4))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(torch.random.get_rng_state(), before)
    with global_randomness(6, CPU):
        assert not torch.equal(torch.rand(4), drawn[0])


def test_replayed_randomness_draws_the_same_again_and_goes_on_as_if_it_had_not():
    state = random_state(CPU)
    first = torch.rand(3)
    with replayed_randomness(state, CPU):
        assert torch.equal(torch.rand(3), first)
    second = torch.rand(3)
    with replayed_randomness(state, CPU):
        assert torch.equal(torch.rand(6)[3:], second)


def test_generators_are_their_own():
    assert torch.equal(torch.rand(3, generator=make_generator(0, "x")), torch.rand(3, generator=make_generator(0, "x")))
