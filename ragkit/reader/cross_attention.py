"""How much of its cross-attention a decoder gives to each passage, from the model's own outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import PreTrainedModel

from ragkit.errors import ConfigError
from ragkit.reader.cache_name import cache_of
from ragkit.reader.decoding import AnswerDecoder, Targets
from ragkit.reader.fusion import Memory
from ragkit.reader.protocol import MassKind


@contextlib.contextmanager
def eager_attention(model: PreTrainedModel) -> Iterator[None]:
    """The decoder's attention computed so that its weights can be returned; as before after the block."""
    encoder_decoder: Any = model
    decoder = encoder_decoder.get_decoder()
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        decoder.set_attn_implementation(before)


@torch.no_grad()
def attention_mass(
    decoder: AnswerDecoder, memory: Memory, targets: Targets, *, kind: MassKind
) -> Float[Tensor, "query passage"]:
    """The mass of each passage (:class:`ragkit.reader.protocol.AttendingReader`); -inf for a missing one.

    Every layer that has cross-attention counts the same; query heads that share their keys and values count one by one.
    ``pre_softmax`` is read off the log of the attention, which differs from the scores by each layer's and head's
    normaliser: for one question a constant, the same for every passage.
    """
    with eager_attention(decoder.model):
        # the cross-attention cache holds the values
        out = decoder.forward(memory, targets, use_cache=True, output_attentions=True)
    attentions = [layer for layer in out.cross_attentions or () if layer is not None]
    values = [layer.values for layer in cache_of(out).cross_attention_cache.layers if layer.is_initialized]
    if not attentions or len(attentions) != len(values):
        raise ConfigError(
            f"{type(decoder.model).__name__} gave {len(attentions)} cross-attentions and the values of {len(values)}, "
            "so its attention cannot be read: use explain=leave_one_out, or feedback from the likelihood"
        )
    total: Tensor = sum(  # type: ignore[assignment]
        _layer_mass(layer[:, :, decoder.first :].float(), value.float(), targets=targets, kind=kind)
        for layer, value in zip(attentions, values, strict=True)
    )
    return _per_passage(total / len(attentions), memory, is_mean=kind == "pre_softmax")


def masses(
    decoder: AnswerDecoder,
    memories: Iterable[tuple[Int64[Tensor, " query"], Memory]],
    targets: Targets,
    *,
    kind: MassKind,
    width: int,
) -> Float[Tensor, "query passage"]:
    """:func:`attention_mass` of every question, from the memories of some of them after the other, ``width`` wide."""
    found = torch.full((len(targets.ids), width), -torch.inf, device=targets.ids.device)
    for rows, memory in memories:
        part = attention_mass(decoder, memory, targets.take(rows), kind=kind)
        found[rows, : part.shape[1]] = part
    return found


def _layer_mass(
    attention: Float[Tensor, "query head step token"],
    values: Float[Tensor, "query kv_head token dim"],
    *,
    targets: Targets,
    kind: MassKind,
) -> Float[Tensor, "query token"]:
    """One layer's mass of every memory token, averaged over heads and answer tokens."""
    if kind == "pre_softmax":
        return attention[:, :, 0].clamp(min=torch.finfo(torch.float32).tiny).log().mean(dim=1)
    if kind == "value_norm":
        norms = values.norm(dim=-1).repeat_interleave(attention.shape[1] // values.shape[1], dim=1)
        attention = attention * norms[:, :, None]
    steps = attention.mean(dim=1).masked_fill(~targets.mask[..., None], 0.0).sum(dim=1)
    return steps / targets.mask.sum(dim=-1, keepdim=True)


def _per_passage(
    mass: Float[Tensor, "query token"], memory: Memory, *, is_mean: bool
) -> Float[Tensor, "query passage"]:
    """The sum (or mean) over each passage's tokens."""
    n_passages = int(memory.n_passages.max())
    places = torch.where(memory.passage >= 0, memory.passage, n_passages)  # the last column takes what is left over
    sums = mass.new_zeros(len(mass), n_passages + 1).scatter_add(1, places, mass)
    counts = mass.new_zeros(len(mass), n_passages + 1).scatter_add(1, places, torch.ones_like(mass))
    found = sums / counts.clamp(min=1) if is_mean else sums
    return found[:, :-1].masked_fill(counts[:, :-1] == 0, -torch.inf)
