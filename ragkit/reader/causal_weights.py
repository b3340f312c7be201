"""The model, tokenizer and settings of a causal reader: from transformers' folders and GGUF files, and back."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ragkit.errors import ConfigError, ModelNotFound
from ragkit.reader.generation import GenerationOptions
from ragkit.reader.gguf import convert_gguf, find_gguf
from ragkit.reader.packing import CausalOptions, PromptTemplate
from ragkit.reader.weights import SETTINGS, positions, read_settings
from ragkit.text.models import quiet, resolve

KIND = "causal"
ADAPTER = "adapter"
_MOST_PROMPT = 2048


@dataclass(frozen=True, slots=True)
class CausalWeights:
    """A decoder-only model of transformers, its tokenizer, and how it reads; ``reference`` is where it came from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    options: CausalOptions
    generation: GenerationOptions
    reference: str = ""


def load_causal(reference: str, *, dtype: torch.dtype) -> CausalWeights:
    """The decoder-only model in a folder or GGUF file, at a hub id or in a package, its weights in ``dtype``.

    Raises ModelNotFound where there is no model or its files are damaged, ConfigError where it is another kind of
    model or lacks weights.
    """
    path = Path(resolve(reference))
    file = find_gguf(path)
    folder = path if file is None else convert_gguf(file)
    settings = read_settings(folder)
    if settings is not None and settings.get("kind") != KIND:
        raise ConfigError(f"{reference} holds a {settings.get('kind')}, wanted a causal reader; give another reader=")
    with quiet():
        try:
            config = AutoConfig.from_pretrained(folder)
            _check_kind(config, reference)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
            )
            model, found = loaded
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelNotFound(f"{reference} holds no model that transformers can open: {error}") from error
    _check_whole(found, reference)
    if settings is not None:
        inputs = dict(settings["inputs"])
        options = CausalOptions(**{**inputs, "template": PromptTemplate(**inputs["template"])})
        generation = GenerationOptions(**settings["generation"])
    else:
        generation = GenerationOptions()
        most = positions(config, tokenizer) - generation.max_tokens - 1
        options = CausalOptions(max_prompt=min(_MOST_PROMPT, most))
    return CausalWeights(model, tokenizer, options, generation, reference)


def _check_kind(config: Any, reference: str) -> None:
    """Raise ConfigError for all but a decoder-only language model with its head."""
    wanted = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    kind = (config.architectures or [wanted])[0]
    if config.is_encoder_decoder or wanted is None or kind != wanted or not getattr(config, "is_decoder", True):
        raise ConfigError(
            f"{reference} is a {kind or config.model_type}, wanted a decoder-only language model "
            "(Llama, Qwen2, GPT-2, ...); encoder-decoders are read by reader=fid"
        )


def _check_whole(found: Mapping[str, Any], reference: str) -> None:
    """Raise ConfigError where weights are missing or have another shape than the configuration says."""
    for name, got, wanted in sorted(found["mismatched_keys"]):
        raise ConfigError(
            f"{reference}: {name} has the shape {list(got)}, wanted {list(wanted)}; "
            "config.json and weights belong to different models"
        )
    if found["missing_keys"]:
        raise ConfigError(f"{reference} lacks weights of its own model: {sorted(found['missing_keys'])[:3]}")


def check_length(weights: CausalWeights) -> None:
    """Raise ConfigError where a prompt and an answer may be longer than the model has positions for."""
    most = positions(weights.model.config, weights.tokenizer)
    wanted = weights.options.max_prompt + weights.generation.max_tokens + 1
    if wanted > most:
        raise ConfigError(
            f"max_prompt {weights.options.max_prompt} and max_tokens {weights.generation.max_tokens} want {wanted} "
            f"positions, more than the {most} of this model; lower max_prompt"
        )


def model_digest(model: nn.Module, about: str = "") -> bytes:
    """Sha256 of ``about`` and the names, number formats and values of all weights and buffers."""
    found = hashlib.sha256(about.encode())
    for name, weight in sorted(model.state_dict().items()):
        found.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        found.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.digest()


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokenizer's end token, and those that the model brings of its own."""
    own: Any = model.generation_config.eos_token_id if model.generation_config else None
    more = own if isinstance(own, list) else [] if own is None else [own]
    return tuple(dict.fromkeys([int(tokenizer.eos_token_id), *more]))


def save_causal(weights: CausalWeights, folder: Path, *, adapted: Any = None) -> None:
    """A folder that ``AutoModelForCausalLM`` opens, with ragkit's settings.

    ``adapted`` (a ``peft.PeftModel``) is merged into a float32 copy, so that nothing of its small updates is lost,
    and saved in ``adapter/`` as well, as peft does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        if adapted is None:
            weights.model.save_pretrained(folder)
        else:
            copy.deepcopy(adapted).float().merge_and_unload().save_pretrained(folder)
            adapted.save_pretrained(folder / ADAPTER)
        weights.tokenizer.save_pretrained(folder)
    # last, so that a folder with this file is a whole reader
    (folder / SETTINGS).write_text(json.dumps(_settings(weights), indent=2) + "\n", encoding="utf-8")


def _settings(weights: CausalWeights) -> Mapping[str, Any]:
    return {
        "kind": KIND,
        "version": 1,
        "inputs": asdict(weights.options),
        "generation": asdict(weights.generation),
    }
