"""MoCo's slow encoder and queue of negatives (He et al. 2020), as modules so that checkpoints hold them."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ragkit.errors import ConfigError


class MomentumQueue(nn.Module):
    """A copy of an encoder that follows it slowly, and the last ``size`` vectors that it made."""

    vectors: Tensor
    filled: Tensor
    position: Tensor

    def __init__(self, encoder: nn.Module, *, dim: int, size: int, momentum: float = 0.9995) -> None:
        super().__init__()
        if size < 1 or not 0 <= momentum < 1:
            raise ConfigError(f"a queue needs size 1 or more and momentum in [0, 1), not {size} and {momentum}")
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.momentum = momentum
        self.register_buffer("vectors", torch.zeros(size, dim))
        self.register_buffer("filled", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self, encoder: nn.Module) -> None:
        """Move every weight a little towards the encoder's: ``w <- m w + (1 - m) w_encoder``."""
        for slow, fast in zip(self.encoder.parameters(), encoder.parameters(), strict=True):
            slow.lerp_(fast.detach(), 1 - self.momentum)

    @torch.no_grad()
    def push(self, vectors: Float[Tensor, "passage dim"]) -> None:
        """Put vectors in the place of the oldest; vectors that are not finite stay out."""
        fit = vectors[torch.isfinite(vectors).all(dim=-1)].float()[-len(self.vectors) :]
        places = (self.position + torch.arange(len(fit), device=fit.device)) % len(self.vectors)
        self.vectors[places] = fit
        self.filled[places] = True
        self.position.copy_((self.position + len(fit)) % len(self.vectors))

    def negatives(self) -> tuple[Float[Tensor, "passage dim"], Bool[Tensor, " passage"]]:
        """All places of the queue, and which of them hold a vector."""
        return self.vectors.clone(), self.filled.clone()
