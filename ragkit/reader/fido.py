"""FiDO: a Fusion-in-Decoder reader converted so that its decoder reads far less memory at every step.

Conversion follows de Jong et al. 2022 for the shape (layer-sparse cross-attention, shared keys and values, encoder
and decoder of different depth) and Ainslie et al. 2023 for the heads (mean pooling). A converted model should be
trained further: dropping cross-attention changes what it says.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from transformers import MT5ForConditionalGeneration, PreTrainedModel, T5ForConditionalGeneration

from ragkit.errors import ConfigError
from ragkit.reader.fid import FusionReader
from ragkit.reader.fido_config import FidoConfig
from ragkit.reader.fido_model import FidoForConditionalGeneration
from ragkit.reader.generation import GenerationOptions
from ragkit.reader.prompts import FusionOptions
from ragkit.reader.seq2seq import load_seq2seq, warn_of_other_inputs
from ragkit.text.models import quiet

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FidoShape:
    """What :func:`convert` makes of a T5: its arguments, as one thing that a configuration can name."""

    period: int = 3
    kv_heads: int | None = 1
    decoder_layers: int | None = None
    encoder_layers: int | None = None


def open_fido(  # noqa: PLR0913  as FusionReader.from_pretrained, and the shape
    model: str,
    *,
    shape: FidoShape | None = None,
    options: FusionOptions | None = None,
    generation: GenerationOptions | None = None,
    batch_tokens: int = 8192,
    device: str = "auto",
    dtype: str = "auto",
) -> FusionReader:
    """A FiD reader over a FiDO model: the T5 or the FiD reader at ``model``, converted to ``shape``.

    A model that is a FiDO already is taken as it is, and must have that shape. None: FiDO's usual one. The other
    arguments are those of :meth:`FusionReader.from_pretrained`. A converted model is meant to be trained next: what it
    says without its cross-attentions is not what it learned to say. ConfigError for a shape that does not fit.
    """
    wanted = shape or FidoShape()
    weights = load_seq2seq(model)
    if options is not None:
        warn_of_other_inputs(weights, options)
    if isinstance(weights.model, FidoForConditionalGeneration):
        if shape is not None:
            _check_shape(weights.model.config, wanted, model)
    else:
        converted = convert(
            weights.model,
            period=wanted.period,
            kv_heads=wanted.kv_heads,
            decoder_layers=wanted.decoder_layers,
            encoder_layers=wanted.encoder_layers,
        )
        smaller = cache_factor(converted, weights.model.config.num_decoder_layers)
        log.info("%s converted to %s: keys and values of passages are %.0f times smaller", model, wanted, smaller)
        weights = replace(weights, model=converted)
    weights = replace(weights, options=options or weights.options, generation=generation or weights.generation)
    return FusionReader(weights, batch_tokens=batch_tokens, device=device, dtype=dtype)


def _check_shape(config: Any, wanted: FidoShape, model: str) -> None:
    """Raise ConfigError where a FiDO has another shape; what ``wanted`` leaves open may be anything."""
    found = FidoShape(
        config.cross_attention_period, config.num_key_value_heads, config.decoder_layers, config.num_layers
    )
    pairs = [(name, getattr(found, name), getattr(wanted, name)) for name in FidoShape.__slots__]
    other = [f"{name} {there}, not {asked}" for name, there, asked in pairs if asked not in (None, there)]
    if other:
        raise ConfigError(f"{model} is a FiDO of another shape ({'; '.join(other)}); leave the shape out to use it")


def convert(
    model: PreTrainedModel,
    *,
    period: int = 1,
    kv_heads: int | None = None,
    decoder_layers: int | None = None,
    encoder_layers: int | None = None,
) -> FidoForConditionalGeneration:
    """A new FiDO model with the weights of a T5-family ``model`` (T5, v1.1, Flan, UL2, mT5), which is left as it is.

    ``period``: every so many-th decoder layer keeps its cross-attention, and the last (ceil(layers / period) in all).
    ``kv_heads``: heads of keys and values in the decoder, each the mean of a group of consecutive heads; None: all.
    ``decoder_layers`` and ``encoder_layers``: how many are kept, evenly spaced, the first and the last among them;
    None: all. With every layer and all heads kept it gives the outputs of ``model``. ConfigError for a model of
    another family and for numbers that do not fit.
    """
    if not isinstance(model, T5ForConditionalGeneration | MT5ForConditionalGeneration):
        raise ConfigError(f"FiDO is made from a T5 or mT5 model, got {type(model).__name__}; reader=fid takes this one")
    config: Any = model.config
    heads = config.num_heads if kv_heads is None else kv_heads
    encoder = kept_layers(config.num_layers, encoder_layers, name="encoder_layers")
    decoder = kept_layers(config.num_decoder_layers, decoder_layers, name="decoder_layers")
    if period < 1:
        raise ConfigError(f"period is {period}; 1 keeps the cross-attention of every layer, 3 that of every third")
    if heads < 1 or config.num_heads % heads:
        raise ConfigError(
            f"kv_heads is {heads}, which does not divide the {config.num_heads} heads of this model; choose from "
            f"{[n for n in range(1, config.num_heads + 1) if config.num_heads % n == 0]}"
        )
    fido = FidoConfig(
        **{key: value for key, value in config.to_dict().items() if key not in _OWN_KEYS},
        num_layers=len(encoder),
        num_decoder_layers=len(decoder),
        cross_attention_period=period,
        num_key_value_heads=heads,
        scale_decoder_outputs=bool(getattr(config, "scale_decoder_outputs", False)),
    )
    weights = dict(_converted(model, fido, encoder=encoder, decoder=decoder))
    return _with_weights(fido, weights, like=model)


# what the converted configuration says for itself
_OWN_KEYS = frozenset({
    "model_type", "architectures", "transformers_version", "num_layers", "num_decoder_layers",
    "scale_decoder_outputs", "dense_act_fn", "is_gated_act", "dtype", "tokenizer_class",
})  # fmt: skip


def kept_layers(layers: int, kept: int | None, *, name: str) -> list[int]:
    """Which of ``layers`` layers stay when ``kept`` do: evenly spaced, the first and the last among them.

    >>> kept_layers(12, 4, name="decoder_layers")
    [0, 4, 7, 11]
    """
    if kept is None:
        return list(range(layers))
    if not 1 <= kept <= layers:
        raise ConfigError(f"{name} is {kept}; this model has {layers} layers, of which 1 to {layers} can be kept")
    if kept == 1:
        return [0]
    return [int(place * (layers - 1) / (kept - 1) + 0.5) for place in range(kept)]


def cache_factor(model: FidoForConditionalGeneration, layers: int) -> float:
    """By what factor the keys and values of the passages shrink against a FiD of so many decoder layers.

    ``layers`` x heads of a FiD, over the layers that still read the passages x the heads of keys and values.
    """
    config = model.config
    return float(layers * config.num_heads / (len(config.reading_layers) * config.num_key_value_heads))


def _with_weights(
    config: FidoConfig, weights: dict[str, Tensor], *, like: PreTrainedModel
) -> FidoForConditionalGeneration:
    """A model of exactly these weights, in the format, on the device and in the mode of another."""
    auto: Any = FidoForConditionalGeneration
    with quiet():
        model, info = auto.from_pretrained(
            None,
            config=config,
            state_dict={name: tensor.clone() for name, tensor in weights.items()},  # or both would train one tensor
            dtype=like.dtype,
            attn_implementation=like.config._attn_implementation,
            output_loading_info=True,
        )
    wrong = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
    if wrong:
        raise ConfigError(f"{type(like).__name__} has not the weights of a T5: {wrong[:3]}")
    model.generation_config = like.generation_config
    converted: FidoForConditionalGeneration = model.to(like.device).train(like.training)
    return converted


def _converted(
    model: PreTrainedModel, config: FidoConfig, *, encoder: list[int], decoder: list[int]
) -> Iterator[tuple[str, Tensor]]:
    """The weights by FiDO's names, from a T5's."""
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    yield "shared.weight", weights["shared.weight"]
    if weights["lm_head.weight"].data_ptr() != weights["shared.weight"].data_ptr():  # T5 v1.1 has a head of its own
        yield "lm_head.weight", weights["lm_head.weight"]
    bias = "SelfAttention.relative_attention_bias.weight"
    yield f"encoder.block.0.layer.0.{bias}", weights[f"encoder.block.0.layer.0.{bias}"]
    yield "decoder.relative_attention_bias.weight", weights[f"decoder.block.0.layer.0.{bias}"]
    for stack in ("encoder", "decoder"):
        yield f"{stack}.final_layer_norm.weight", weights[f"{stack}.final_layer_norm.weight"]
    for new, old in enumerate(encoder):
        for name, tensor in _below(weights, f"encoder.block.{old}."):
            if not name.endswith(bias):
                yield f"encoder.block.{new}.{name}", tensor
    for new, old in enumerate(decoder):
        block = dict(_below(weights, f"decoder.block.{old}."))
        for name, tensor in _decoder_layer(block, config, reads=new in config.reading_layers):
            yield f"decoder.layers.{new}.{name}", tensor


def _decoder_layer(block: dict[str, Tensor], config: FidoConfig, *, reads: bool) -> Iterator[tuple[str, Tensor]]:
    """One decoder layer by FiDO's names, its heads of keys and values pooled."""
    kinds = [("layer.0", "SelfAttention", "self_attention"), ("layer.1", "EncDecAttention", "cross_attention")]
    for layer, theirs, ours in kinds if reads else kinds[:1]:
        yield f"{ours}.layer_norm.weight", block[f"{layer}.layer_norm.weight"]
        for part in ("q", "k", "v", "o"):
            tensor = block[f"{layer}.{theirs}.{part}.weight"]
            pooled = part in ("k", "v")
            yield f"{ours}.attention.{part}.weight", pool_heads(tensor, config) if pooled else tensor
    for name, tensor in _below(block, "layer.2."):
        yield f"feed_forward.{name}", tensor


def pool_heads(projection: Tensor, config: FidoConfig) -> Tensor:
    """A projection [heads x head, dim] to keys or values as the mean over each group of heads: [groups x head, dim]."""
    groups = (config.num_key_value_heads, -1, config.d_kv, projection.shape[-1])  # [group, member, head, dim]
    return projection.view(groups).float().mean(dim=1).flatten(0, 1).to(projection.dtype)


def _below(weights: dict[str, Tensor], prefix: str) -> Iterator[tuple[str, Tensor]]:
    return ((name.removeprefix(prefix), tensor) for name, tensor in weights.items() if name.startswith(prefix))
