"""What tasks do to a model before its first step: name its weights, set its dropout, freeze a part of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ragkit.errors import ConfigError


def weights_digest(module: nn.Module) -> str:
    """Sha256 of names and weights, 16 characters: the same model from another folder may resume a run."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]


def has_dropout(module: nn.Module) -> bool:
    """Whether the module drops anything in training mode, so that it computes something else in eval mode.

    Looks for what :func:`set_dropout` sets, and for whole layers that are dropped (``layerdrop``).
    """
    return any(
        isinstance(value, int | float) and value > 0
        for part in module.modules()
        for name, value in vars(part).items()
        if "drop" in name or name == "p"  # the last is nn.Dropout's
    )


def set_dropout(module: nn.Module, share: float) -> None:
    """Let every dropout in the module be ``share``: its ``nn.Dropout``, and the plain numbers that attention keeps."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = share
        for name, value in vars(part).items():
            if name.endswith("dropout") and isinstance(value, float):
                setattr(part, name, share)


def freeze_layers(encoder: nn.Module, n_layers: int) -> None:
    """No gradient for the encoder's lowest layers and what comes before them: its embeddings.

    Raises ConfigError where it has fewer layers, or none that can be found.
    """
    found = [(name, list(part)) for name, part in encoder.named_modules() if isinstance(part, nn.ModuleList)]
    place, layers = found[0] if found else ("", [])
    if n_layers > len(layers):
        raise ConfigError(
            f"options.frozen_layers={n_layers}, but {type(encoder).__name__} has {len(layers) or 'no'} layers that can "
            "be frozen"
        )
    for name, parameter in encoder.named_parameters():
        if name.startswith(f"{place}."):
            break  # parameters come in the order of the modules: the embeddings before the layers
        parameter.requires_grad_(False)
    for layer in layers[:n_layers]:
        layer.requires_grad_(False)


def freeze_words(reader: nn.Module) -> None:
    """No gradient for the word vectors that a reader's model reads, and for those that it writes by."""
    model: Any = getattr(reader, "model", reader)
    decoder: Any = getattr(model, "decoder", model)
    for part in (model.get_input_embeddings(), model.get_output_embeddings(), decoder.get_input_embeddings()):
        if part is not None:
            part.weight.requires_grad_(False)


def encoder_of(reader: nn.Module) -> nn.Module:
    """The encoder of a reader's encoder-decoder; the decoder of a model that has nothing else.

    Raises ConfigError where the reader's ``model`` is not one of transformers.
    """
    model = getattr(reader, "model", reader)
    get_encoder = getattr(model, "get_encoder", None)
    found: Any = get_encoder() if get_encoder is not None else getattr(model, "base_model", None)
    if not isinstance(found, nn.Module):
        raise ConfigError(f"{type(model).__name__} has no encoder that could be frozen; leave options.frozen_* out")
    return found


class TrainedPart(nn.Module):
    """A module whose state is what training may change: parameters that want a gradient, and buffers.

    Frozen weights are those of the model that a run starts from, which a resumed run must start from too; so the
    checkpoints of a few adapters on a large model are small, and processes need not be sent what they have.
    """

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        """The whole module's state, under its own names, without frozen parameters."""
        frozen = self._frozen()
        found: dict[str, Any] = self.whole.state_dict(*args, **options)
        return {name: value for name, value in found.items() if name not in frozen}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Put a state back; RuntimeError where it lacks a trained weight or has an unknown one."""
        found = self.whole.load_state_dict(state_dict, strict=False, assign=assign)
        missing = set(found.missing_keys) - self._frozen()
        if strict and (missing or found.unexpected_keys):
            raise RuntimeError(f"the state lacks {sorted(missing)[:3]} and has unknown {found.unexpected_keys[:3]}")
        return found

    def _frozen(self) -> set[str]:
        return {name for name, p in self.whole.named_parameters(remove_duplicate=False) if not p.requires_grad}
