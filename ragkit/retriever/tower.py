"""One text encoder: a transformer, its tokenizer, and perhaps a projection."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from ragkit.errors import ConfigError, InputError, ModelNotFound
from ragkit.retriever.pooling import POOLERS
from ragkit.text.models import quiet
from ragkit.text.tokens import TokenBatch, Tokenizer, load_tokenizer, pad


class Tower(nn.Module):
    """A transformer with its tokenizer and an optional linear projection of its pooled vectors.

    The transformer's own pooler, which no dual encoder uses, is left out: it would be a parameter without gradient.
    """

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, *, projection: nn.Linear | None = None) -> None:
        super().__init__()
        if getattr(model, "pooler", None) is not None:
            setattr(model, "pooler", None)  # noqa: B010  a plain assignment does not type-check on nn.Module
        self.model = model
        self.tokenizer = tokenizer
        self.projection = projection

    @property
    def dim(self) -> int:
        """The length of its vectors."""
        return self.projection.out_features if self.projection is not None else self.hidden_size

    @property
    def hidden_size(self) -> int:
        """The width of the transformer's states."""
        config: Any = self.model.config
        return int(config.hidden_size)

    @property
    def max_positions(self) -> int:
        """The longest input in tokens that the model takes; very large for models without such a limit."""
        config: Any = self.model.config
        positions = getattr(config, "max_position_embeddings", None)
        if getattr(config, "model_type", "") in {"roberta", "xlm-roberta", "camembert", "mpnet"} and positions:
            positions -= 2  # their position ids start after the padding id
        return int(min(positions or 10**9, self.tokenizer.model_max_length))

    def forward(self, batch: TokenBatch, *, pooling: str, normalize: bool) -> Float[Tensor, "passage dim"]:
        """The vectors of tokenised texts, float32; a zero vector stays zero under normalisation."""
        states = self.model(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state
        vectors = POOLERS[pooling](states, batch.mask)
        if self.projection is not None:
            vectors = self.projection(vectors).float()
        return nn.functional.normalize(vectors, dim=-1) if normalize else vectors

    def project(self, dim: int) -> None:
        """Give it a linear projection to ``dim`` dimensions, unless it has one of that size."""
        if dim < 1:
            raise InputError(f"projection={dim}; it must be a number of dimensions")
        if self.projection is None or self.projection.out_features != dim:
            self.projection = nn.Linear(self.hidden_size, dim)

    def keep_layers(self, n_layers: int) -> None:
        """Drop all layers of the transformer but the first ``n_layers``: a weaker encoder, and a faster one.

        Raises ConfigError where the transformer has fewer, or no list of all of them.
        """
        config: Any = self.model.config
        lists = (named for named in self.model.named_modules() if isinstance(named[1], nn.ModuleList))
        name, found = next(lists, ("", nn.ModuleList()))
        if len(found) != getattr(config, "num_hidden_layers", None):  # a list of something else, or one of several
            raise ConfigError(f"layers={n_layers}: {type(self.model).__name__} has no list of its layers; leave it out")
        if not 1 <= n_layers <= len(found):
            raise ConfigError(f"layers={n_layers}, but {type(self.model).__name__} has {len(found)}; keep 1 or more")
        parent, _, own = name.rpartition(".")
        setattr(self.model.get_submodule(parent), own, found[:n_layers])
        config.num_hidden_layers = n_layers
        if getattr(config, "layer_types", None):  # full or sliding attention, by layer (ModernBERT, Qwen3)
            config.layer_types = config.layer_types[:n_layers]

    def pad(self, ids: list[list[int]]) -> TokenBatch:
        """A batch padded on the tokenizer's side."""
        return pad(ids, pad_id=self.tokenizer.pad_token_id or 0, side=self.tokenizer.padding_side)

    def copied(self, dtype: torch.dtype | None = None) -> Tower:
        """A tower with weights of its own; ``dtype`` is that of the transformer, the projection stays as it is."""
        model = copy.deepcopy(self.model)
        projection = copy.deepcopy(self.projection)
        return Tower(model.to(dtype) if dtype is not None else model, self.tokenizer, projection=projection)

    def weights(self) -> dict[str, Tensor]:
        """Its parameters by name, those of the transformer first."""
        return dict(sorted(self.named_parameters()))


def load_tower(folder: Path) -> Tower:
    """The tower saved as a plain transformers folder, in float32 and evaluation mode, without projection."""
    config = _load_config(folder)
    projection = None
    with quiet():
        try:
            if config.model_type == "dpr":
                model, projection = _load_dpr(folder, config)
            else:
                model = _model_class(config).from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelNotFound(f"no encoder can be read from {folder}: {str(error).splitlines()[0]}") from error
    return Tower(model, load_tokenizer(str(folder)), projection=projection).eval()


def _load_config(folder: Path) -> Any:
    from transformers import AutoConfig  # noqa: PLC0415  slow import

    if not (folder / "config.json").is_file():
        raise ModelNotFound(f"{folder} holds no model: it has no config.json")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelNotFound(f"{folder}/config.json names no model: {str(error).splitlines()[0]}") from error


def _model_class(config: Any) -> Any:
    """The class of the encoder: T5 and its like keep a text encoder apart from their decoder."""
    from transformers import AutoModel, AutoModelForTextEncoding  # noqa: PLC0415  slow import

    if not getattr(config, "is_encoder_decoder", False):
        return AutoModel
    if type(config) not in AutoModelForTextEncoding._model_mapping:
        raise InputError(f"{config.model_type} has a decoder and no text encoder of its own; choose an encoder model")
    return AutoModelForTextEncoding


def _load_dpr(folder: Path, config: Any) -> tuple[nn.Module, nn.Linear | None]:
    """The BERT inside a DPRQuestionEncoder or DPRContextEncoder, as a plain BertModel that every library opens."""
    from transformers import BertConfig, BertModel, DPRContextEncoder, DPRQuestionEncoder  # noqa: PLC0415

    named = (config.architectures or [""])[0]
    if named == "DPRReader":
        raise InputError(f"{folder} is a DPR reader, not an encoder")
    if named == "DPRContextEncoder":
        encoder: Any = DPRContextEncoder.from_pretrained(folder, local_files_only=True, dtype=torch.float32).ctx_encoder
    else:
        loaded: Any = DPRQuestionEncoder.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        encoder = loaded.question_encoder
    skipped = {"model_type", "architectures", "projection_dim", "transformers_version"}
    bert_config = BertConfig(**{k: v for k, v in config.to_dict().items() if k not in skipped})
    model = BertModel(bert_config, add_pooling_layer=False)
    model.load_state_dict(encoder.bert_model.state_dict())
    return model, encoder.encode_proj if encoder.projection_dim > 0 else None
