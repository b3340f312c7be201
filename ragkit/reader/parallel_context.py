"""Passages read apart from one another and reused: their keys and values, computed once and joined when asked.

Every passage is read after the prompt's head and sees nothing else, as if it stood there first. When passages are
joined, the keys of each are turned by its new place: with rotary positions the attention between two tokens depends
on their distance alone, so that inside a passage (and from it to the head, at the distance it was read with) all stays
as it was, and only question and answer, which see everything, meet it where it is now. It is the layout of
Block-Attention (Sun et al. 2024), with a head that all passages see.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel

from ragkit.errors import ConfigError
from ragkit.reader.cache_name import cache_argument
from ragkit.reader.causal_weights import model_digest
from ragkit.reader.context_cache import ContextCache
from ragkit.reader.packing import Prompt
from ragkit.reader.reading import length_batches

ROTARY_MODELS = ("llama", "mistral", "qwen2", "qwen3")  # whole heads rotated, one set of frequencies
_FIXED_ROPE = ("default", "linear", "llama3", "yarn")  # frequencies that do not depend on the length

Piece = tuple[int, ...]
States = Float[Tensor, "2 layer head _ dim"]  # keys, then values


class ParallelContext:
    """The keys and values of a head and of passages after it, for one model as its weights are now.

    Raises ConfigError for a model whose positions are not rotary, or whose layers see a window only.
    """

    def __init__(
        self, model: PreTrainedModel, head: Piece, *, batch_tokens: int, cache: ContextCache | None = None
    ) -> None:
        _check(model.config)
        self.model, self.head, self.batch_tokens, self.cache = model, head, batch_tokens, cache
        self._digest: tuple[Any, str] | None = None

    @property
    def digest(self) -> str:
        """Sha256 of all that decides a passage's states beside its tokens: weights, number format, config, head.

        Computed anew when a weight has changed.
        """
        version = tuple((p.data_ptr(), p._version) for p in self.model.parameters())
        if self._digest is None or self._digest[0] != version:
            self._digest = version, _context_digest(self.model, self.head)
        return self._digest[1]

    def states(self, prompts: Sequence[Prompt]) -> dict[Piece, States]:
        """The states of the head and of every passage of these prompts, each as if it stood right after the head.

        With gradient where that is enabled, and then never from the cache, which is for weights that stay.
        """
        has_gradient = torch.is_grad_enabled()
        head = self._head(use_cache=not has_gradient)
        pieces = sorted({piece for prompt in prompts for piece in prompt.passages})
        found: dict[Piece, States] = {}
        cache, digest = (None, "") if has_gradient or self.cache is None else (self.cache, self.digest)
        if cache is not None:
            kept = ((piece, cache.get(digest, _piece_digest(piece))) for piece in pieces)
            found = {piece: states.to(self.model.device) for piece, states in kept if states is not None}
        missing = [piece for piece in pieces if piece not in found]
        for rows in length_batches([len(piece) for piece in missing], budget=self.batch_tokens):
            part = [missing[row] for row in rows]
            for piece, states in zip(part, self._compute(part, head), strict=True):
                found[piece] = states
                if cache is not None:
                    cache.put(digest, _piece_digest(piece), states)
        return {**found, (): head}

    def _head(self, *, use_cache: bool) -> States:
        key = "head" + _piece_digest(self.head)
        found = self.cache.get(self.digest, key) if self.cache is not None and use_cache else None
        if found is not None:
            return found.to(self.model.device)
        if not self.head:
            (states,) = self._compute([(0,)], None)  # any token, for the shape
            return states[..., :0, :]
        (states,) = self._compute([self.head], None)
        if self.cache is not None and use_cache:
            self.cache.put(self.digest, key, states)
        return states

    def _compute(self, pieces: Sequence[Piece], head: States | None) -> list[States]:
        """One pass over some pieces, each after the head; padding is on the right, where no token sees it."""
        device, start = self.model.device, 0 if head is None else head.shape[3]
        width = max(map(len, pieces))
        ids = torch.tensor([[*piece, *[0] * (width - len(piece))] for piece in pieces], device=device)
        cache = DynamicCache()
        if head is not None and start:
            _fill(cache, head[:, :, None].expand(-1, -1, len(pieces), -1, -1, -1))
        run: Any = self.model
        run(
            input_ids=ids,
            attention_mask=torch.ones(len(pieces), start + width, dtype=torch.int64, device=device),
            position_ids=torch.arange(start, start + width, device=device).expand(len(pieces), -1),
            **cache_argument(cache),
            use_cache=True,
            logits_to_keep=1,
        )
        layers: Any = cache.layers
        keys, values = (torch.stack([getattr(layer, part) for layer in layers]) for part in ("keys", "values"))
        both = torch.stack([keys, values])[..., start:, :]  # [2, layer, row, head, token, dim]
        return [both[:, :, row, :, : len(piece)].contiguous() for row, piece in enumerate(pieces)]

    def join(
        self, prompts: Sequence[Prompt], states: Mapping[Piece, States]
    ) -> tuple[Cache, Bool[Tensor, "row cached"]]:
        """What the model has in its cache after head and passages of each prompt, and the mask of real tokens.

        Padding is on the left. The passages of a prompt follow one another, as in its ``ids``.
        """
        joined = [self._join(prompt, states) for prompt in prompts]
        width = max(one.shape[3] for one in joined)
        mask = torch.tensor([[False] * (width - one.shape[3]) + [True] * one.shape[3] for one in joined])
        padded = [torch.nn.functional.pad(one, (0, 0, width - one.shape[3], 0)) for one in joined]
        cache = DynamicCache()
        _fill(cache, torch.stack(padded, dim=2))
        return cache, mask.to(self.model.device)

    def _join(self, prompt: Prompt, states: Mapping[Piece, States]) -> States:
        pieces = [states[()], *(states[piece] for piece in prompt.passages)]
        lengths = torch.tensor([0, *(piece.shape[3] for piece in pieces[1:])])
        # the head and the first passage stay; every later one moves by the lengths of those between
        moves = (lengths.cumsum(0) - lengths).repeat_interleave(torch.tensor([piece.shape[3] for piece in pieces]))
        keys, values = torch.cat(pieces, dim=3).unbind(0)
        return torch.stack([self._turn(keys, moves.to(keys.device)), values])

    def _turn(
        self, keys: Float[Tensor, "layer head token dim"], moves: Int64[Tensor, " token"]
    ) -> Float[Tensor, "layer head token dim"]:
        """Keys moved on by some places each: rotations add up, so those of their first place need not be undone."""
        model: Any = self.model.base_model
        angles = moves.float()[:, None] * model.rotary_emb.inv_freq.float()[None]  # [token, dim / 2]
        cos, sin = angles.cos(), angles.sin()
        first, second = keys.float().chunk(2, dim=-1)
        turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
        return turned.to(keys.dtype)


def _fill(cache: DynamicCache, states: Float[Tensor, "2 layer row head token dim"]) -> None:
    for layer, (keys, values) in enumerate(zip(states[0], states[1], strict=True)):
        cache.update(keys, values, layer)


def _check(config: Any) -> None:
    kind = config.model_type
    rope = getattr(config, "rope_parameters", None) or {}
    if kind not in ROTARY_MODELS or rope.get("rope_type", "default") not in _FIXED_ROPE:
        raise ConfigError(
            f"context=parallel moves passages by their rotary positions, which a {kind} "
            f"({rope.get('rope_type', 'no rotary positions')}) does not have in a known way; "
            f"use context=prefill, or one of {sorted(ROTARY_MODELS)}"
        )
    windows = [name for name in getattr(config, "layer_types", None) or [] if name != "full_attention"]
    if windows or (kind == "mistral" and config.sliding_window is not None):
        raise ConfigError(f"context=parallel needs layers that see everything; this {kind} has windows: {windows[:1]}")


def _piece_digest(piece: Piece) -> str:
    return hashlib.sha256(repr(piece).encode()).hexdigest()


def _context_digest(model: PreTrainedModel, head: Piece) -> str:
    config = {key: value for key, value in model.config.to_dict().items() if key not in ("_name_or_path", "dtype")}
    return model_digest(model, repr(("ragkit context 1", sorted(config.items(), key=lambda item: item[0]), head))).hex()
