"""GradCache: the gradient of a loss over a large batch, in the memory of a small one.

Gao et al. 2021: encode every chunk without gradient, differentiate the loss with respect to the vectors alone, then
encode each chunk again with gradient and pass its part back. The random numbers of the first pass are replayed in the
second, so dropout drops the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ragkit.seeding import random_state, replayed_randomness

Encode = Callable[[], Tensor]


def cached_backward(
    groups: Sequence[Sequence[Encode]],
    loss: Callable[[Sequence[Tensor]], Tensor],
    *,
    backward: Callable[[Tensor], None],
    device: torch.device,
) -> Tensor:
    """Add the gradient of ``loss`` to the parameters behind the encoders; the loss, without gradient.

    ``groups`` hold the chunks of one kind each (queries, passages); ``loss`` gets their vectors, ``[row, dim]`` a
    group. ``backward`` differentiates the loss and may weigh it. Twice the forward passes, the memory of one chunk.
    """
    states = [[random_state(device) for _ in group] for group in groups]
    vectors: list[Tensor] = []
    sizes: list[list[int]] = []
    for group, kept in zip(groups, states, strict=True):
        parts = []
        for number, encode in enumerate(group):
            kept[number] = random_state(device)
            with torch.no_grad(), _without_autocast_cache(device):
                parts.append(encode())
        vectors.append(torch.cat(parts).requires_grad_())
        sizes.append([len(part) for part in parts])
    value = loss(vectors)
    backward(value)
    for group, kept, whole, lengths in zip(groups, states, vectors, sizes, strict=True):
        if whole.grad is None:
            continue
        for encode, state, gradient in zip(group, kept, torch.split(whole.grad, lengths), strict=True):
            with replayed_randomness(state, device):
                part = encode()
            with torch.autocast(device.type, enabled=False):
                part.backward(gradient)  # type: ignore[no-untyped-call]
    return value.detach()


@contextlib.contextmanager
def _without_autocast_cache(device: torch.device) -> Iterator[None]:
    """Autocast as it is around, but a weight cast without gradient is not kept for the pass that needs one."""
    if not torch.is_autocast_enabled(device.type):
        yield
        return
    with torch.autocast(device.type, dtype=torch.get_autocast_dtype(device.type), cache_enabled=False):
        yield
