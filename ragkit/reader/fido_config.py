"""The shape of a FiDO model: T5's, with fewer layers that read the passages and fewer heads of keys and values."""

from __future__ import annotations

from typing import Any

from transformers.models.t5.configuration_t5 import T5Config


def reads_passages(layer: int, *, layers: int, period: int) -> bool:
    """Whether decoder layer ``layer`` (from 0) keeps its cross-attention: every ``period``-th does, and the last.

    Layer i keeps it where (i + 1) is a multiple of ``period``; where the depth is no multiple, the last layer keeps it
    as well, so that there are ceil(layers / period) in all and none at the end works blind.

    >>> [layer for layer in range(24) if reads_passages(layer, layers=24, period=6)]
    [5, 11, 17, 23]
    >>> [layer for layer in range(4) if reads_passages(layer, layers=4, period=3)]
    [2, 3]
    """
    return (layer + 1) % period == 0 or layer + 1 == layers


class FidoConfig(T5Config):  # type: ignore[no-untyped-call]
    """T5's configuration, and how much of its decoder is left.

    ``cross_attention_period``: every so many-th decoder layer attends to the passages (:func:`reads_passages`).
    ``num_key_value_heads``: heads of keys and values in the decoder, shared by ``num_heads`` query heads in groups of
    consecutive ones. ``scale_decoder_outputs``: T5 scales the states before its tied head, T5 v1.1 and mT5 do not.
    """

    model_type = "fido"
    # the caches of generation ask for num_hidden_layers: the decoder's
    attribute_map = {**T5Config.attribute_map, "num_hidden_layers": "num_decoder_layers"}  # noqa: RUF012

    def __init__(
        self,
        *,
        cross_attention_period: int = 1,
        num_key_value_heads: int = 8,
        scale_decoder_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cross_attention_period = cross_attention_period
        self.num_key_value_heads = num_key_value_heads
        self.scale_decoder_outputs = scale_decoder_outputs  # T5's own constructor would guess it

    @property
    def decoder_layers(self) -> int:
        """Layers of the decoder."""
        return self.num_decoder_layers or self.num_layers

    @property
    def reading_layers(self) -> list[int]:
        """The decoder layers that have cross-attention."""
        n, period = self.decoder_layers, self.cross_attention_period
        return [layer for layer in range(n) if reads_passages(layer, layers=n, period=period)]
