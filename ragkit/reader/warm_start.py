"""A FiD reader from encoders alone: their layers for encoder and decoder, and a decoder that copies from the start."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    PreTrainedTokenizerBase,
)
from transformers.models.bert.modeling_bert import BertPooler

from ragkit.errors import ConfigError, ModelNotFound
from ragkit.reader.fid import FusionReader
from ragkit.reader.generation import GenerationOptions
from ragkit.reader.prompts import FusionOptions
from ragkit.reader.seq2seq import Seq2SeqWeights
from ragkit.seeding import global_randomness
from ragkit.text.models import quiet, resolve

_LINEAR_FROM = 6.0  # GELU leaves what is larger than this as it is, to 1e-8


@dataclass(frozen=True, slots=True)
class DecoderStart:
    """How the decoder begins.

    It has ``layers`` layers. Their self-attention is that of the lowest layers of the model it starts from, and so are
    its word and position vectors; cross-attention, which no encoder has, is fresh, drawn by ``seed``.

    ``copies``: the decoder writes the word that it attends to, before any training; only where to look is left to
    learn. This needs the ``states_and_words`` memory. The encoder's states are made ``state_weight`` times as long as
    the word vectors that they are added to (MiniLM's are 11 times as long, and the words would drown in them), and what
    the decoder has read weighs ``copy_weight`` times what it holds already. Feed-forward layers begin with zeros.
    ``copies`` False: feed-forward layers as the model has them, the head fresh too.
    """

    layers: int = 2
    copies: bool = True
    state_weight: float = 0.6
    copy_weight: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ConfigError(f"start.layers is {self.layers}; a decoder needs 1 layer or more")
        for name in ("state_weight", "copy_weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"start.{name} must be above 0, not {getattr(self, name)}")


def warm_start(  # noqa: PLR0913  two models, how to begin, and what every reader takes
    encoder: str,
    decoder: str | None = None,
    *,
    start: DecoderStart | None = None,
    options: FusionOptions | None = None,
    generation: GenerationOptions | None = None,
    batch_tokens: int = 8192,
    device: str = "auto",
    dtype: str = "auto",
) -> FusionReader:
    """A FiD reader, to be trained, whose encoder and decoder begin with the weights of BERT-like encoders.

    ``encoder`` and ``decoder`` (None: the same) are model references: an encoder such as MiniLM, or a trained
    extractive reader's folder (RUN/reader), whose encoder knows already where answers stand. The reader is a plain
    :class:`transformers.EncoderDecoderModel`; ``is_trained`` is False. ``start`` says how the decoder begins.

    Raises:
        ModelNotFound: there is no such model.
        ConfigError: a model is no BERT, the two do not fit together, or ``start`` does not fit the options.
    """
    start, options = start or DecoderStart(), options or FusionOptions()
    if start.copies != (options.memory == "states_and_words"):
        raise ConfigError(
            f"start.copies={start.copies} does not go with options.memory={options.memory!r}: a decoder that copies "
            "reads states_and_words, another one states"
        )
    # transformers draws fresh weights from the global generator
    with global_randomness(start.seed, torch.device("cpu")):
        model, tokenizer = _build(encoder, decoder or encoder, start=start)
    _set_tokens(model, tokenizer)
    weights = Seq2SeqWeights(
        model, tokenizer, options, generation or GenerationOptions(), is_trained=False, reference=encoder
    )
    return FusionReader(weights, batch_tokens=batch_tokens, device=device, dtype=dtype)


def _build(encoder: str, decoder: str, *, start: DecoderStart) -> tuple[EncoderDecoderModel, PreTrainedTokenizerBase]:
    """The model, and the tokenizer that both of its halves have."""
    source, tokenizer = _load(encoder)
    target, other = (source, tokenizer) if decoder == encoder else _load(decoder)
    _check_fit(source, target, vocabularies=(tokenizer.get_vocab(), other.get_vocab()), start=start)
    writer = _decoder(target, n_layers=start.layers)
    if start.copies:
        _let_copy(source, writer, start=start)
    config = EncoderDecoderConfig.from_encoder_decoder_configs(source.config, writer.config)
    model = EncoderDecoderModel(encoder=source, decoder=writer, config=config)
    pooler: Any = BertPooler(source.config).requires_grad_(False)  # type: ignore[no-untyped-call]
    for parameter in pooler.parameters():
        nn.init.zeros_(parameter)  # nothing reads it, but transformers wants one in a saved model
    source.pooler = pooler
    return model, tokenizer


def _load(reference: str) -> tuple[BertModel, PreTrainedTokenizerBase]:
    """The BERT encoder and the tokenizer at a model reference, without pooler and heads."""
    folder = resolve(reference)
    with quiet():
        try:
            config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
            if not isinstance(config, BertConfig):
                raise ConfigError(
                    f"{reference} is a {config.model_type} model; a FiD reader can be warm-started from BERT's kind "
                    "alone (BERT, MiniLM, ...). An encoder-decoder needs no warm start: reader=fid reader.model=..."
                )
            config.is_decoder = config.add_cross_attention = False
            model = BertModel.from_pretrained(folder, config=config, dtype=torch.float32, add_pooling_layer=False)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelNotFound(f"{reference} holds no model that transformers can open: {error}") from error
    return model, tokenizer


def _check_fit(
    source: BertModel, target: BertModel, *, vocabularies: tuple[dict[str, int], dict[str, int]], start: DecoderStart
) -> None:
    """Raise ConfigError where the decoder is too shallow, or has other words or another width than the encoder."""
    if start.layers > target.config.num_hidden_layers:
        raise ConfigError(
            f"start.layers is {start.layers}, and the model that the decoder starts from has "
            f"{target.config.num_hidden_layers}"
        )
    if vocabularies[0] != vocabularies[1]:
        raise ConfigError("encoder and decoder have different vocabularies; a reader has one tokenizer for both")
    if start.copies and source.config.hidden_size != target.config.hidden_size:
        raise ConfigError(
            f"the encoder's vectors have {source.config.hidden_size} dimensions and the decoder's "
            f"{target.config.hidden_size}; only with equal ones can the decoder copy: start.copies=false"
        )


def _decoder(target: BertModel, *, n_layers: int) -> BertLMHeadModel:
    """The lowest layers of an encoder as a decoder with fresh cross-attention and a head tied to the word vectors."""
    config = BertConfig.from_dict(target.config.to_dict())
    config.is_decoder = config.add_cross_attention = True
    config.num_hidden_layers = n_layers
    writer = BertLMHeadModel(config)
    found = target.state_dict()
    state = writer.bert.state_dict()
    writer.bert.load_state_dict({name: found.get(name, fresh) for name, fresh in state.items()})
    writer.tie_weights()
    return writer


def _let_copy(source: BertModel, writer: BertLMHeadModel, *, start: DecoderStart) -> None:
    """Weights with which the decoder writes the word that it attends to.

    Values and their projection are the identity, so attending to a token brings its word vector into the decoder; the
    head's transform is the identity too, since GELU leaves large numbers as they are and the layer norm after it takes
    a constant away; and the logits are then largest at the nearest word vector: w.e - |e|^2 / 2, up to the scale.
    """
    words = writer.bert.embeddings.word_embeddings.weight
    last: Any = source.encoder.layer[-1]
    norm = last.output.LayerNorm
    length = words.norm(dim=-1).mean()
    with torch.no_grad():
        states = (norm.weight.square() + norm.bias.square()).sum().sqrt()  # the length of a state, in the mean square
        shrink = start.state_weight * length / states
        norm.weight.mul_(shrink)
        norm.bias.mul_(shrink)
        size = math.sqrt(writer.config.hidden_size)
        for layer in writer.bert.encoder.layer:
            _copy_in_layer(layer, weight=start.copy_weight / float(length), shrink=float(shrink))
        head: Any = writer.cls.predictions
        _identity(head.transform.dense)
        head.transform.dense.bias.fill_(_LINEAR_FROM)
        head.transform.LayerNorm.reset_parameters()
        head.bias.copy_(-0.5 * words.square().sum(dim=-1) * size / length)


def _copy_in_layer(layer: Any, *, weight: float, shrink: float) -> None:
    cross = layer.crossattention
    cross.self.key.weight.div_(shrink)  # keys as if the states had kept their length
    _identity(cross.self.value)
    _identity(cross.output.dense, scale=weight)
    nn.init.zeros_(layer.output.dense.weight)
    nn.init.zeros_(layer.output.dense.bias)
    layer.output.LayerNorm.reset_parameters()


def _identity(linear: nn.Linear, *, scale: float = 1.0) -> None:
    nn.init.eye_(linear.weight)
    linear.weight.mul_(scale)
    nn.init.zeros_(linear.bias)


def _set_tokens(model: EncoderDecoderModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """BERT's CLS starts an answer and its SEP ends it."""
    for name in ("cls_token_id", "sep_token_id", "pad_token_id"):
        if getattr(tokenizer, name) is None:
            raise ConfigError(f"the tokenizer has no {name.removesuffix('_id')}, so it cannot start or end an answer")
    config: Any = model.config
    config.decoder_start_token_id = tokenizer.cls_token_id
    config.eos_token_id = tokenizer.sep_token_id
    config.pad_token_id = tokenizer.pad_token_id
    config.vocab_size = config.decoder.vocab_size
