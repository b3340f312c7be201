"""The encoder and the heads of an extractive reader, from and to transformers' own layouts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ragkit.errors import ConfigError, ModelNotFound
from ragkit.reader.inputs import InputOptions
from ragkit.text.models import quiet, resolve

KIND = "extractive_reader"
SETTINGS = "ragkit.json"
_SELECTION = "selection.safetensors"
_INIT_STD = 0.02  # BERT's


@dataclass(frozen=True, slots=True)
class ReaderWeights:
    """A question-answering model of transformers, the passage selection head it lacks, and how it reads.

    ``is_trained`` is False where a head is fresh: such a reader must be trained before it answers. ``reference`` is
    where it was loaded from.
    """

    model: PreTrainedModel
    selection: nn.Linear
    tokenizer: PreTrainedTokenizerBase
    options: InputOptions
    max_answer_tokens: int
    is_trained: bool
    reference: str = ""


def load_weights(reference: str, *, seed: int = 0) -> ReaderWeights:
    """The reader in a folder, at a hub id or in a package; what it has no head for gets a fresh one, drawn by ``seed``.

    Takes what ragkit saved, a DPR reader of transformers (``DPRReader``), any question-answering model (its span head
    is kept) and any encoder. Raises ModelNotFound where there is no model, ConfigError where it is none of these.
    """
    folder = resolve(reference)
    settings = read_settings(Path(folder))
    if settings is not None and settings.get("kind") != KIND:
        raise ConfigError(
            f"{reference} holds a {settings.get('kind')}, wanted an extractive reader; "
            "give the folder RUN or RUN/reader of a trained one"
        )
    with quiet():
        try:
            config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
            weights = _load(folder, config, tokenizer, settings=settings, seed=seed)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelNotFound(f"{reference} holds no model that transformers can open: {error}") from error
    return replace(weights, reference=reference)


def _load(
    folder: str,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    settings: dict[str, Any] | None,
    seed: int,
) -> ReaderWeights:
    generator = torch.Generator().manual_seed(seed)
    kind = (config.architectures or [""])[0]
    if kind == "DPRReader":
        model, selection = _from_dpr(folder, config)
        options, is_trained = InputOptions(max_length=min(350, positions(config, tokenizer)), segments=False), True
    else:
        model = _question_answering(folder, config, generator=generator)
        selection, is_trained = _selection(Path(folder), model, generator=generator)
        most = min(InputOptions().max_length, positions(config, tokenizer))
        options = InputOptions(**settings["inputs"]) if settings else InputOptions(max_length=most)
    max_answer_tokens = int(settings["max_answer_tokens"]) if settings else 10
    return ReaderWeights(model, selection, tokenizer, options, max_answer_tokens, is_trained)


def positions(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The most tokens that a model and its tokenizer take at once."""
    return min(int(getattr(config, "max_position_embeddings", 1 << 30)), int(tokenizer.model_max_length))


def read_settings(folder: Path) -> dict[str, Any] | None:
    """What ragkit wrote beside a model of its own; None for a model from elsewhere."""
    file = folder / SETTINGS
    if not file.is_file():
        return None
    try:
        settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelNotFound(f"{file} is damaged ({error}); train or copy the reader again") from error
    return settings


def save_weights(weights: ReaderWeights, folder: Path) -> None:
    """A folder that transformers opens as a question-answering model, with the selection head beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        weights.model.save_pretrained(folder)
        weights.tokenizer.save_pretrained(folder)
    save_file(
        {name: tensor.detach().contiguous() for name, tensor in weights.selection.state_dict().items()},
        folder / _SELECTION,
    )
    settings = {
        "kind": KIND,
        "version": 1,
        "inputs": asdict(weights.options),
        "max_answer_tokens": weights.max_answer_tokens,
    }
    # last, so that a folder with this file is a whole reader
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _question_answering(folder: str, config: PretrainedConfig, *, generator: torch.Generator) -> PreTrainedModel:
    if (config.architectures or [""])[0].endswith("ForQuestionAnswering"):
        model = AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float32)
        _check(model)
        return model  # type: ignore[no-any-return]
    encoder = AutoModel.from_pretrained(folder, dtype=torch.float32)
    try:
        model = AutoModelForQuestionAnswering.from_config(encoder.config)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ConfigError(
            f"{folder} is a {type(encoder).__name__}, for which transformers has no question-answering model: {error}"
        ) from error
    _check(model)
    missing = model.base_model.load_state_dict(encoder.state_dict(), strict=False).missing_keys  # a pooler is left over
    if missing:
        raise ConfigError(f"{folder} lacks weights of its own encoder: {missing[:3]}")
    _draw(model.qa_outputs, generator=generator)
    return model  # type: ignore[no-any-return]


def _check(model: PreTrainedModel) -> None:
    head = getattr(model, "qa_outputs", None)
    if not isinstance(head, nn.Linear) or head.out_features != 2 or model.config.is_encoder_decoder:  # noqa: PLR2004
        raise ConfigError(f"{type(model).__name__} is not an encoder with a linear span head; take a BERT-like encoder")


def _selection(folder: Path, model: PreTrainedModel, *, generator: torch.Generator) -> tuple[nn.Linear, bool]:
    head = nn.Linear(int(model.config.hidden_size), 1)
    file = folder / _SELECTION
    if file.is_file():
        head.load_state_dict(load_file(file))
        return head, True
    _draw(head, generator=generator)
    return head, False


def _draw(head: nn.Linear, *, generator: torch.Generator) -> None:
    """Fresh weights that depend on the generator alone, not on torch's global random state."""
    nn.init.normal_(head.weight, mean=0.0, std=_INIT_STD, generator=generator)
    nn.init.zeros_(head.bias)


def _from_dpr(folder: str, config: PretrainedConfig) -> tuple[PreTrainedModel, nn.Linear]:
    """A DPRReader's BERT, span head and passage head (``qa_classifier``), the BERT as a BertForQuestionAnswering."""
    from transformers import BertConfig, BertForQuestionAnswering, DPRReader  # noqa: PLC0415  only for this layout

    spans = DPRReader.from_pretrained(folder, dtype=torch.float32).span_predictor
    if config.projection_dim:
        raise ConfigError(
            f"{folder} projects its vectors to {config.projection_dim}; only DPR readers without projection can be read"
        )
    known = BertConfig().to_dict()
    model = BertForQuestionAnswering(
        BertConfig(
            **{
                key: value
                for key, value in config.to_dict().items()
                if key in known and key not in ("architectures", "model_type")
            }
        )
    )
    model.bert.load_state_dict(spans.encoder.bert_model.state_dict(), strict=False)
    model.qa_outputs.load_state_dict(spans.qa_outputs.state_dict())
    return model, spans.qa_classifier
