"""Low-rank adapters on a causal model, through peft."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ragkit.errors import ConfigError, MissingPackage
from ragkit.seeding import derive_seed, global_randomness


@dataclass(frozen=True, slots=True)
class LoraOptions:
    """Low-rank adapters (Hu et al. 2021): ``rank``, ``alpha`` (the update is scaled by alpha / rank), ``dropout``.

    ``targets`` are the last parts of the names of the linear layers that get one (``q_proj``); None: all but the
    output layer. ``last_layers``: in that many of the model's last layers only, so that no gradient goes below them;
    None: in all. ``seed`` draws the adapters.
    """

    rank: int = 16
    alpha: float | int = 32
    dropout: float | int = 0.0
    targets: Sequence[str] | None = None
    last_layers: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                f"lora wants rank >= 1, alpha > 0 and 0 <= dropout < 1, "
                f"not rank={self.rank} alpha={self.alpha} dropout={self.dropout}"
            )


def add_lora(model: PreTrainedModel, options: LoraOptions) -> Any:
    """The model with fresh float32 adapters, the only weights that want a gradient, as a ``peft.PeftModel``.

    Equal in every process: drawn by ``options.seed``. Its answers are the bare model's until it is trained.

    Raises:
        ConfigError: no layer of the model is among the targets.
        MissingPackage: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model  # noqa: PLC0415  optional
    except ImportError as error:
        raise MissingPackage('lora needs the package peft: pip install "ragkit[causal]"') from error

    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,  # type: ignore[arg-type]
        lora_dropout=options.dropout,
        target_modules=_targets(model, options),
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in model.modules()),  # GPT-2's layers are transposed
        task_type="CAUSAL_LM",
    )
    with global_randomness(derive_seed(options.seed, "lora"), torch.device("cpu")), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers under a name that goes away
        return get_peft_model(model, config)


def _targets(model: PreTrainedModel, options: LoraOptions) -> list[str]:
    """The whole names of the layers that get an adapter."""
    blocks, layers = next((name, part) for name, part in model.named_modules() if isinstance(part, nn.ModuleList))
    last = len(layers) if options.last_layers is None else options.last_layers
    if not 1 <= last <= len(layers):
        raise ConfigError(f"lora.last_layers is {last}, and this model has {len(layers)} layers")
    inside = tuple(f"{blocks}.{row}." for row in range(len(layers) - last, len(layers)))
    linear = [
        name for name, part in model.named_modules() if isinstance(part, nn.Linear | Conv1D) and name.startswith(inside)
    ]
    last_parts = {name.rpartition(".")[2] for name in linear}
    unknown = set(options.targets or ()) - last_parts
    if unknown or not linear:
        raise ConfigError(f"lora.targets {sorted(unknown)} are not in this model; choose from {sorted(last_parts)}")
    return [name for name in linear if options.targets is None or name.rpartition(".")[2] in options.targets]
