"""Losses as functions of tensors."""

from ragkit.losses.contrastive import contrastive
from ragkit.losses.distillation import distillation_kl
from ragkit.losses.extractive import extractive, marginal_span, passage_selection
from ragkit.losses.knowledge import knowledge_distillation
from ragkit.losses.marginal import marginal_nll

__all__ = [
    "contrastive",
    "distillation_kl",
    "extractive",
    "knowledge_distillation",
    "marginal_nll",
    "marginal_span",
    "passage_selection",
]
