"""Randomness as a function of names: the same seed and the same step give the same draws, wherever a run resumes."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator

import torch


def derive_seed(seed: int, *names: int | str) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive_seed(0, "order", epoch)``: other names, independent draws.

    >>> derive_seed(0, "order", 1) == derive_seed(0, "order", 1) != derive_seed(0, "order", 2)
    True
    """
    key = json.dumps([seed, *names])
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def make_generator(seed: int, *names: int | str) -> torch.Generator:
    """A CPU generator seeded by :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))


@contextlib.contextmanager
def global_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global generators (what dropout draws from) seeded inside the block, and as they were after it."""
    is_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if is_cuda else [], enabled=True):
        torch.random.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        if is_cuda:
            torch.cuda.set_rng_state(torch.Generator(device).manual_seed(seed).get_state(), device)
        yield


def random_state(device: torch.device) -> list[torch.Tensor]:
    """The states of the global generators that a model on ``device`` draws from."""
    states = [torch.random.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


@contextlib.contextmanager
def replayed_randomness(states: list[torch.Tensor], device: torch.device) -> Iterator[None]:
    """The draws that followed :func:`random_state` come again inside the block; after it all is as it was."""
    is_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if is_cuda else []):
        torch.random.set_rng_state(states[0])
        if is_cuda:
            torch.cuda.set_rng_state(states[1], device)
        yield
