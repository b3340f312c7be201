"""FiDO's decoder: cross-attention in some layers only, keys and values shared by groups of heads."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import EncoderDecoderCache
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.t5.modeling_t5 import T5Attention, T5LayerFF, T5LayerNorm, T5PreTrainedModel

from ragkit.reader.fido_config import FidoConfig

# added to a score that must not count; not -inf, with which a row without anything to read would be NaN
_HIDDEN = torch.finfo(torch.bfloat16).min


class GroupedAttention(nn.Module):
    """T5's attention (no scaling, no biases in its projections) with fewer heads of keys and values than of queries.

    Query heads of one group are consecutive. The group's heads are worked on as so many more query rows, so keys and
    values are read once and never repeated in memory.
    """

    def __init__(self, config: FidoConfig) -> None:
        super().__init__()
        self.config = config
        self.heads, self.groups = config.num_heads, config.num_key_value_heads
        self.head_dim, self.dropout = config.d_kv, config.dropout_rate
        self.q = nn.Linear(config.d_model, self.heads * self.head_dim, bias=False)
        self.k = nn.Linear(config.d_model, self.groups * self.head_dim, bias=False)
        self.v = nn.Linear(config.d_model, self.groups * self.head_dim, bias=False)
        self.o = nn.Linear(self.heads * self.head_dim, config.d_model, bias=False)

    def keys_values(
        self, states: Float[Tensor, "query token width"]
    ) -> tuple[Float[Tensor, "query kv_head token dim"], Float[Tensor, "query kv_head token dim"]]:
        """Keys and values of ``states``, one for each group of heads."""
        keys, values = (
            projected(states).unflatten(-1, (self.groups, self.head_dim)).transpose(1, 2)
            for projected in (self.k, self.v)
        )
        return keys, values

    def forward(
        self,
        states: Float[Tensor, "query answer width"],
        keys: Float[Tensor, "query kv_head token dim"],
        values: Float[Tensor, "query kv_head token dim"],
        bias: Float[Tensor, "#query #head #answer token"],
        *,
        attentions: bool = False,
    ) -> tuple[Float[Tensor, "query answer width"], Float[Tensor, "query head answer token"] | None]:
        """What each position reads; and, where asked for, how much of each key, for every query head.

        ``bias`` is added to the scores: the position bias, and the most negative number where nothing may be read.
        """
        n_rows = (self.heads // self.groups) * states.shape[1]  # a group's heads x positions
        queries = self.q(states).unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)
        queries = queries.reshape(len(states), self.groups, n_rows, self.head_dim)
        packed = self._packed(bias.to(queries.dtype), answer=states.shape[1])
        dropout = self.dropout if self.training else 0.0
        weights = None
        # one step of generation has few rows over many keys: written out it is faster than the fused kernel on a CPU
        if attentions or states.shape[1] == 1 or self.config._attn_implementation == "eager":
            scores = queries @ keys.transpose(-1, -2) + packed
            weights = scores.softmax(dim=-1, dtype=torch.float32).to(queries.dtype)
            read = F.dropout(weights, dropout) @ values
            weights = weights.reshape(len(states), self.heads, states.shape[1], -1)
        else:
            read = F.scaled_dot_product_attention(queries, keys, values, packed, dropout, scale=1.0)
        read = read.reshape(len(states), self.heads, states.shape[1], self.head_dim)
        return self.o(read.transpose(1, 2).flatten(2)), weights if attentions else None

    def _packed(
        self, bias: Float[Tensor, "query head answer token"], *, answer: int
    ) -> Float[Tensor, "query kv_head row token"]:
        """The bias for packed rows; one that is the same for all heads and positions stays as small as it is."""
        if bias.shape[1] == bias.shape[2] == 1:
            return bias
        bias = bias.expand(-1, self.heads, answer, -1)
        return bias.reshape(len(bias), self.groups, -1, bias.shape[-1])


class FidoPreTrainedModel(T5PreTrainedModel):  # type: ignore[no-untyped-call]
    """What FiDO's whole model and its decoder have in common: configuration and initial weights, both T5's."""

    config_class = FidoConfig
    _no_split_modules = ["T5Block", "FidoBlock"]
    _can_record_outputs: dict[str, Any] = {}
    _supports_flex_attn = False

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        return True  # eager or sdpa, looked up at every call; transformers guesses it from the source otherwise

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        config: Any = self.config
        scale, width = config.initializer_factor, config.initializer_factor * config.d_model**-0.5
        if isinstance(module, GroupedAttention):
            init.normal_(module.q.weight, mean=0.0, std=width * config.d_kv**-0.5)
            init.normal_(module.k.weight, mean=0.0, std=width)
            init.normal_(module.v.weight, mean=0.0, std=width)
            init.normal_(module.o.weight, mean=0.0, std=scale * (config.num_heads * config.d_kv) ** -0.5)
        elif isinstance(module, FidoDecoder):
            init.normal_(module.relative_attention_bias.weight, mean=0.0, std=width)
        elif module is self and isinstance(words := getattr(module, "shared", None), nn.Embedding):
            init.normal_(words.weight, mean=0.0, std=scale)


class AttentionLayer(nn.Module):
    """Norm, attention, dropout; added to its input."""

    def __init__(self, config: FidoConfig) -> None:
        super().__init__()
        self.attention = GroupedAttention(config)
        self.layer_norm = T5LayerNorm(config.d_model, eps=config.layer_norm_epsilon)  # type: ignore[no-untyped-call]
        self.dropout = nn.Dropout(config.dropout_rate)


class FidoBlock(GradientCheckpointingLayer):  # type: ignore[no-untyped-call]
    """A decoder layer; ``cross`` is its number among the layers that read the passages, None where it does not."""

    def __init__(self, config: FidoConfig, *, layer: int, cross: int | None) -> None:
        super().__init__()
        self.layer, self.cross = layer, cross
        self.self_attention = AttentionLayer(config)
        self.cross_attention = AttentionLayer(config) if cross is not None else None
        self.feed_forward = T5LayerFF(config)

    def forward(  # noqa: PLR0913, PLR0917  by position, as gradient checkpointing wants tensors
        self,
        states: Float[Tensor, "query answer width"],
        bias: Float[Tensor, "#query head answer all"],
        memory: Float[Tensor, "query token width"],
        memory_bias: Float[Tensor, "#query 1 1 token"],
        cache: EncoderDecoderCache | None = None,
        attentions: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The next states, and the attention of both kinds where asked for."""
        normed = self.self_attention.layer_norm(states)
        keys, values = self.self_attention.attention.keys_values(normed)
        if cache is not None:
            keys, values = cache.self_attention_cache.update(keys, values, self.layer)
        read, own = self.self_attention.attention(normed, keys, values, bias, attentions=attentions)
        states = states + self.self_attention.dropout(read)
        across = None
        if self.cross_attention is not None and self.cross is not None:
            attention = self.cross_attention.attention
            normed = self.cross_attention.layer_norm(states)
            keys, values = _memory(attention, memory, cache, layer=self.cross)
            read, across = attention(normed, keys, values, memory_bias, attentions=attentions)
            states = states + self.cross_attention.dropout(read)
        return self.feed_forward(states), own, across


def _memory(
    attention: GroupedAttention, memory: Tensor, cache: EncoderDecoderCache | None, *, layer: int
) -> tuple[Tensor, Tensor]:
    """Keys and values of the passages: computed at the first step, taken from the cache after it."""
    if cache is None:
        return attention.keys_values(memory)
    if cache.is_updated.get(layer):
        cached: Any = cache.cross_attention_cache.layers[layer]
        return cached.keys, cached.values
    keys, values = attention.keys_values(memory)
    cache.is_updated[layer] = True
    return cache.cross_attention_cache.update(keys, values, layer)


class Decoded(NamedTuple):
    """The decoder's last states [query answer dim], and attention by layer: of all layers, of those with passages."""

    states: Tensor
    self_attentions: tuple[Tensor, ...]
    cross_attentions: tuple[Tensor, ...]


class FidoDecoder(FidoPreTrainedModel):  # type: ignore[no-untyped-call]
    """The stack of decoder layers, with T5's relative positions, the same in every layer."""

    def __init__(self, config: FidoConfig) -> None:
        super().__init__(config)
        n, reading = config.decoder_layers, config.reading_layers
        self.layers = nn.ModuleList(
            FidoBlock(config, layer=layer, cross=reading.index(layer) if layer in reading else None)
            for layer in range(n)
        )
        self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, config.num_heads)
        self.final_layer_norm = T5LayerNorm(config.d_model, eps=config.layer_norm_epsilon)  # type: ignore[no-untyped-call]
        self.dropout = nn.Dropout(config.dropout_rate)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(  # noqa: PLR0913  the two sequences, their masks, the cache, what to return
        self,
        embedded: Float[Tensor, "query answer width"],
        memory: Float[Tensor, "query token dim"],
        *,
        memory_mask: Int[Tensor, "query token"] | Bool[Tensor, "query token"] | None = None,
        mask: Int[Tensor, "query all"] | Bool[Tensor, "query all"] | None = None,
        cache: EncoderDecoderCache | None = None,
        attentions: bool = False,
    ) -> Decoded:
        """States of the answer's tokens, which follow those in the cache.

        ``memory`` is the passages' encodings, ``memory_mask`` False at padding; ``mask`` covers the cached tokens too.
        """
        past = cache.get_seq_length() if cache is not None else 0
        bias = self._bias(past, embedded, mask)
        memory_bias = embedded.new_zeros(1, 1, 1, memory.shape[1])
        if memory_mask is not None:
            memory_bias = memory_bias.masked_fill(~memory_mask.bool()[:, None, None], _HIDDEN)
        states, own, across = self.dropout(embedded), [], []
        for block in self.layers:
            states, self_weights, cross_weights = block(
                states, bias, memory, memory_bias, cache=cache, attentions=attentions
            )
            own.append(self_weights)
            across.append(cross_weights)
        states = self.dropout(self.final_layer_norm(states))
        return Decoded(
            states,
            tuple(weights for weights in own if weights is not None),
            tuple(weights for weights in across if weights is not None),
        )

    def _bias(
        self,
        past: int,
        embedded: Float[Tensor, "query answer width"],
        mask: Int[Tensor, "query all"] | Bool[Tensor, "query all"] | None,
    ) -> Float[Tensor, "#query head answer all"]:
        """T5's position bias of the new positions against all so far; the most negative number at later ones."""
        at = torch.arange(past, past + embedded.shape[1], device=embedded.device)
        keys = torch.arange(past + embedded.shape[1], device=embedded.device)
        distance = keys[None, :] - at[:, None]  # [answer, all]
        config: Any = self.config
        buckets = T5Attention._relative_position_bucket(  # type: ignore[no-untyped-call]
            distance,
            bidirectional=False,
            num_buckets=config.relative_attention_num_buckets,
            max_distance=config.relative_attention_max_distance,
        )
        bias = self.relative_attention_bias(buckets).permute(2, 0, 1)[None]  # [1, heads, answer, all]
        hidden = (distance > 0)[None, None]
        if mask is not None:
            hidden = hidden | ~mask.bool()[:, None, None]
        masked: Tensor = bias.masked_fill(hidden, _HIDDEN)
        return masked
