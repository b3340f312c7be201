"""FiDO's model: a T5 whose decoder attends to the passages in some layers only and shares keys and values.

Written from the description of de Jong et al. 2022 (layer-sparse cross-attention, multi-query attention, encoder and
decoder of different depth). The encoder is T5's own; importing this module lets transformers' Auto classes open it.
"""

from __future__ import annotations

import copy
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForSeq2SeqLM, DynamicCache, EncoderDecoderCache, GenerationMixin
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.models.t5.modeling_t5 import T5Stack

from ragkit.reader.cache_name import cache_argument
from ragkit.reader.fido_config import FidoConfig
from ragkit.reader.fido_decoder import FidoDecoder, FidoPreTrainedModel


class FidoForConditionalGeneration(FidoPreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """T5's encoder, FiDO's decoder, T5's head; trains, generates and saves as T5 does.

    The cross-attention cache holds one layer for each layer that reads the passages, in their order, with
    ``num_key_value_heads`` heads. ``cross_attentions`` in the outputs are of the same layers.
    """

    _tied_weights_keys = {
        "encoder.embed_tokens.weight": "shared.weight",
        "lm_head.weight": "shared.weight",
    }

    def __init__(self, config: FidoConfig) -> None:
        super().__init__(config)
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        encoder_config = copy.deepcopy(config)
        encoder_config.is_decoder = encoder_config.use_cache = False
        self.encoder = T5Stack(encoder_config)
        self.decoder = FidoDecoder(copy.deepcopy(config))
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Embedding:
        """The word vectors, shared by encoder and decoder."""
        return self.shared

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word vectors of encoder and decoder."""
        self.shared = value  # type: ignore[assignment]
        self.encoder.set_input_embeddings(value)  # type: ignore[no-untyped-call]

    def prepare_decoder_input_ids_from_labels(self, labels: Int[Tensor, "query token"]) -> Int[Tensor, "query token"]:
        """The labels shifted right behind the start token."""
        shifted: Tensor = self._shift_right(labels)  # type: ignore[no-untyped-call]
        return shifted

    def forward(  # noqa: PLR0913, PLR0917  transformers' own signature
        self,
        input_ids: Int[Tensor, "query token"] | None = None,
        attention_mask: Int[Tensor, "query token"] | Bool[Tensor, "query token"] | None = None,
        decoder_input_ids: Int[Tensor, "query answer"] | None = None,
        decoder_attention_mask: Int[Tensor, "query all"] | Bool[Tensor, "query all"] | None = None,
        encoder_outputs: Any = None,
        cache: EncoderDecoderCache | None = None,
        inputs_embeds: Float[Tensor, "query token dim"] | None = None,
        labels: Int[Tensor, "query answer"] | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        **ignored: Any,
    ) -> Seq2SeqLMOutput:
        """As T5's: logits [query answer vocab], and the mean cross-entropy of ``labels`` where they are not -100.

        ``encoder_outputs`` may be given in place of the inputs (a BaseModelOutput or a tuple of states).
        """
        del ignored  # return_dict, cache_position and the like, which generate hands to every model
        if encoder_outputs is None:
            given = {"input_ids": input_ids, "inputs_embeds": inputs_embeds}
            encoder_outputs = self.encoder(attention_mask=attention_mask, **given)
        memory = encoder_outputs[0]
        if labels is not None and decoder_input_ids is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        cache = past_key_values if cache is None else cache  # its name before transformers 5.24
        if use_cache and cache is None:
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        decoded = self.decoder(
            self.shared(decoder_input_ids),
            memory,
            memory_mask=attention_mask,
            mask=decoder_attention_mask,
            cache=cache,
            attentions=bool(output_attentions),
        )
        logits = self._logits(decoded.states)
        return Seq2SeqLMOutput(
            loss=None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten()),
            logits=logits,
            **cache_argument(cache),
            decoder_attentions=decoded.self_attentions if output_attentions else None,
            cross_attentions=decoded.cross_attentions if output_attentions else None,
            encoder_last_hidden_state=memory,
            encoder_hidden_states=getattr(encoder_outputs, "hidden_states", None),
            encoder_attentions=getattr(encoder_outputs, "attentions", None),
        )

    def _logits(self, states: Float[Tensor, "query answer dim"]) -> Float[Tensor, "query answer vocab"]:
        if self.config.scale_decoder_outputs:
            states = states * self.config.d_model**-0.5
        logits: Tensor = self.lm_head(states)
        return logits


AutoConfig.register("fido", FidoConfig, exist_ok=True)
AutoModelForSeq2SeqLM.register(FidoConfig, FidoForConditionalGeneration, exist_ok=True)
