"""Losses as functions of tensors."""

from ragkit.losses.contrastive import contrastive
from ragkit.losses.distillation import distillation_kl
from ragkit.losses.marginal import marginal_nll

__all__ = ["contrastive", "distillation_kl", "marginal_nll"]
