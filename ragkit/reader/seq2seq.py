"""Encoder-decoder models from and to plain transformers folders, and the special tokens that their decoders use."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ragkit.errors import ConfigError, ModelNotFound
from ragkit.reader.generation import GenerationOptions
from ragkit.reader.prompts import FusionOptions
from ragkit.reader.weights import SETTINGS, read_settings
from ragkit.text.models import quiet, resolve

log = logging.getLogger(__name__)
KINDS = ("fid", "fido")


@dataclass(frozen=True, slots=True)
class Seq2SeqWeights:
    """An encoder-decoder of transformers, its tokenizer, and how it reads and answers.

    ``is_trained`` is False where some weights are fresh: such a reader must be trained before it answers.
    ``reference`` is where it was loaded from, ``is_saved`` True where ragkit had written the options there.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    options: FusionOptions
    generation: GenerationOptions = GenerationOptions()
    is_trained: bool = True
    reference: str = ""
    is_saved: bool = False


@dataclass(frozen=True, slots=True)
class DecoderTokens:
    """What stands before every answer in the decoder, what ends it, what pads it, and what is ``never`` written."""

    start: tuple[int, ...]
    end: int
    pad: int
    never: tuple[int, ...] = ()


def load_seq2seq(reference: str) -> Seq2SeqWeights:
    """The encoder-decoder in a folder, at a hub id or in a package, in float32, with the options saved beside it.

    Raises ModelNotFound where there is no model that can be opened, ConfigError where it is of another kind or lacks
    some of its weights.
    """
    folder = resolve(reference)
    settings = read_settings(Path(folder))
    if settings is not None and settings.get("kind") not in KINDS:
        raise ConfigError(
            f"{reference} holds a {settings.get('kind')}, wanted a FiD reader ({' or '.join(KINDS)}); "
            "give the folder RUN or RUN/reader of a trained one"
        )
    with quiet():
        try:
            config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
            if not config.is_encoder_decoder:
                raise ConfigError(
                    f"{reference} is a {config.model_type} model without encoder and cross-attention; "
                    "FiD needs an encoder-decoder (T5, BART, EncoderDecoderModel)"
                )
            model, report = AutoModelForSeq2SeqLM.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelNotFound(f"{reference} holds no encoder-decoder that transformers can open: {error}") from error
    _check_report(reference, model, report)
    options, generation = _options(Path(folder), settings, most=encoder_positions(model))
    return Seq2SeqWeights(model, tokenizer, options, generation, reference=reference, is_saved=settings is not None)


def save_seq2seq(weights: Seq2SeqWeights, folder: Path, *, kind: str) -> None:
    """A folder that ``AutoModelForSeq2SeqLM`` opens, with ragkit's settings beside the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        weights.model.save_pretrained(folder)
        weights.tokenizer.save_pretrained(folder)
    settings = {
        "kind": kind,
        "version": 1,
        "inputs": asdict(weights.options),
        "generation": asdict(weights.generation),
    }
    # last, so that a folder with this file is a whole reader
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def encoder_positions(model: PreTrainedModel) -> int:
    """The most tokens that the encoder takes at once; T5 has relative positions and no limit."""
    config: Any = model.config
    config = getattr(config, "encoder", config)
    return int(getattr(config, "max_position_embeddings", None) or 1 << 30)


def decoder_positions(model: PreTrainedModel) -> int:
    """The most tokens that the decoder takes."""
    config: Any = model.config
    config = getattr(config, "decoder", config)
    return int(getattr(config, "max_position_embeddings", None) or 1 << 30)


def require_cross_attention(model: PreTrainedModel) -> None:
    """Raise ConfigError for a model whose decoder cannot look at what the encoder read."""
    config: Any = model.config
    decoder = getattr(config, "decoder", None)
    if not config.is_encoder_decoder or (decoder is not None and not getattr(decoder, "add_cross_attention", True)):
        raise ConfigError(
            f"{type(model).__name__} has no cross-attention, so its decoder cannot read passages; FiD needs an "
            "encoder-decoder (T5, BART, or an EncoderDecoderModel whose decoder has add_cross_attention=True)"
        )


def decoder_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    before: Sequence[int],
    answer_start: Sequence[int] = (),
) -> DecoderTokens:
    """The decoder's start, end and padding, by the model's own settings and the tokenizer.

    The end is the tokenizer's EOS, or SEP for a BERT. The start is ``decoder_start_token_id`` (CLS for a BERT that does
    not set it), then what the tokenizer puts ``before`` a text, unless that is the same (BART: ``</s><s>``), then
    ``answer_start``.
    Raises ConfigError where a token is missing or model and tokenizer disagree.
    """
    encoder_decoder: Any = model
    n_words = encoder_decoder.get_encoder().get_input_embeddings().num_embeddings
    if n_words < len(tokenizer):
        raise ConfigError(
            f"the model has {n_words} words and the tokenizer {len(tokenizer)}; they do not belong together"
        )
    config = encoder_decoder.config
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    if end is None:
        raise ConfigError(
            f"the tokenizer {tokenizer.name_or_path!r} has no end token (eos_token, or sep_token for a BERT), "
            "so no answer would ever end; set one and save the tokenizer again"
        )
    stated = getattr(config, "eos_token_id", None)  # an EncoderDecoderConfig may have none
    if isinstance(stated, int) and stated != end:
        raise ConfigError(
            f"the model ends its answers with token {stated} and the tokenizer's end token is {end}; "
            "they do not belong together, or config.eos_token_id must be set"
        )
    start = getattr(config, "decoder_start_token_id", None)
    if start is None:
        start = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    if start is None:
        raise ConfigError(
            f"{type(model).__name__} does not say how a decoder starts (decoder_start_token_id) and the tokenizer has "
            "neither CLS nor BOS; set config.decoder_start_token_id"
        )
    more = (*(() if list(before) == [start] else before), *answer_start)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    # not all_special_ids: T5's sentinels may stand in what it was taught to write
    names = ("bos", "cls", "sep", "mask", "pad", "unk")
    never = {getattr(tokenizer, f"{name}_token_id") for name in names} - {None, end}
    return DecoderTokens((int(start), *more), int(end), int(pad), tuple(sorted(never)))


def check_lengths(weights: Seq2SeqWeights, *, n_start: int) -> None:
    """Raise ConfigError where inputs or answers may be longer than the model has positions for."""
    most = encoder_positions(weights.model)
    if weights.options.max_length > most:
        raise ConfigError(f"max_length {weights.options.max_length} is more than the {most} tokens this encoder takes")
    room = decoder_positions(weights.model) - n_start
    if weights.generation.max_tokens > room:
        raise ConfigError(f"max_tokens {weights.generation.max_tokens} is more than the {room} this decoder can write")


def warn_of_other_inputs(weights: Seq2SeqWeights, options: FusionOptions) -> None:
    """One warning where a reader that ragkit saved is to see its inputs in another form than it was trained with."""
    changed = [
        name
        for name in ("memory", "question", "passage", "answer_start")
        if getattr(weights.options, name) != getattr(options, name)
    ]
    if weights.is_saved and changed:
        log.warning(
            "%s was trained with %s and is now read with %s",
            weights.reference,
            ", ".join(f"{name}={getattr(weights.options, name)!r}" for name in changed),
            ", ".join(f"{name}={getattr(options, name)!r}" for name in changed),
        )


def _check_report(reference: str, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Raise ConfigError where transformers left some weights random: they were not in the files, or did not fit."""
    name, advice = type(model).__name__, "its files belong to another model or are not complete"
    if report["mismatched_keys"]:
        shown = "; ".join(
            f"{key} is {list(found)}, wanted {list(wanted)}"
            for key, found, wanted in sorted(report["mismatched_keys"])[:3]
        )
        raise ConfigError(f"{reference} has weights of another shape than its {name}: {shown}; {advice}")
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ConfigError(f"{reference} lacks {len(missing)} weights of a {name}: {', '.join(missing[:3])}; {advice}")


def _options(folder: Path, settings: dict[str, Any] | None, *, most: int) -> tuple[FusionOptions, GenerationOptions]:
    """The options that ragkit saved; else the defaults, within what the encoder takes."""
    if settings is None:
        return replace(FusionOptions(), max_length=min(FusionOptions().max_length, most)), GenerationOptions()
    try:
        return FusionOptions(**settings["inputs"]), GenerationOptions(**settings["generation"])
    except (TypeError, KeyError) as error:
        raise ModelNotFound(
            f"{folder / SETTINGS} is damaged or of a later version ({error}); train or copy the reader again"
        ) from error
