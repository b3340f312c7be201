"""The decoder over a memory: how likely it finds given answers, and what it writes itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from ragkit.reader.fusion import Memory
from ragkit.reader.generation import ChoiceTrie, GenerationOptions, cut_at_end, generation_config, pad_ids
from ragkit.reader.seq2seq import DecoderTokens


class Targets(NamedTuple):
    """The answers that a decoder is asked for, end token included; padded on the right."""

    ids: Int64[Tensor, "query token"]
    mask: Bool[Tensor, "query token"]

    def take(self, rows: Int64[Tensor, " set"]) -> Targets:
        """One line a set."""
        return Targets(self.ids[rows], self.mask[rows])


class AnswerDecoder:
    """The decoder of an encoder-decoder, called through the model itself, and the tokens that its answers need."""

    def __init__(self, model: PreTrainedModel, tokens: DecoderTokens) -> None:
        self.model, self.tokens = model, tokens

    def targets(self, answers: Sequence[Sequence[int]]) -> Targets:
        """Each answer's tokens with the end token after them."""
        ids = [[*answer, self.tokens.end] for answer in answers]
        return Targets(*pad_ids(ids, pad=self.tokens.pad, device=self.model.device))

    def forward(self, memory: Memory, targets: Targets, **options: bool) -> Any:
        """The model's own outputs, fed so that each answer token is predicted from those before it.

        One question a line of the memory; ``options`` are the model's own (``use_cache``, ``output_attentions``).
        """
        start = torch.tensor(self.tokens.start, device=targets.ids.device).expand(len(targets.ids), -1)
        model: Any = self.model
        return model(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory.states),
            attention_mask=memory.mask.long(),
            decoder_input_ids=torch.cat([start, targets.ids[:, :-1]], dim=-1),
            **options,
        )

    @property
    def first(self) -> int:
        """The decoder's position that predicts the first answer token."""
        return len(self.tokens.start) - 1

    def logits(self, memory: Memory, targets: Targets) -> Float[Tensor, "query token vocab"]:
        """Float32 logits at every answer token, teacher forced."""
        logits: Tensor = self.forward(memory, targets, use_cache=False).logits
        return logits[:, self.first :].float()

    def log_probs(self, memory: Memory, targets: Targets) -> Float[Tensor, "query token"]:
        """Natural log-probability of every answer token; 0 at padding."""
        return -_nll(self.logits(memory, targets), targets)

    def generation_config(self, options: GenerationOptions, *, trie: ChoiceTrie | None = None) -> GenerationConfig:
        """The options and the decoder's tokens as transformers' ``generate`` takes them."""
        tokens = self.tokens
        config = generation_config(options, start=tokens.start[0], end=tokens.end, pad=tokens.pad, trie=trie)
        # BERT's MASK lies beside its SEP: where an answer may not end yet, it would be written, and read as nothing
        config.suppress_tokens = list(tokens.never) or None
        return config

    def generate(
        self, memory: Memory, options: GenerationOptions, *, trie: ChoiceTrie | None = None
    ) -> list[list[int]]:
        """The tokens of the answer to each question, without end token, by transformers' own ``generate``."""
        start = torch.tensor(self.tokens.start, device=memory.mask.device).expand(len(memory.mask), -1)
        model: Any = self.model
        found: Tensor = model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory.states),
            attention_mask=memory.mask.long(),
            decoder_input_ids=start,
            generation_config=self.generation_config(options, trie=trie),
            prefix_allowed_tokens_fn=trie.after(start.shape[1]) if trie else None,
        )
        return [cut_at_end(line, end=self.tokens.end) for line in found[:, start.shape[1] :].tolist()]


def mean_nll(
    logits: Float[Tensor, "query token vocab"], targets: Targets, *, label_smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Mean over questions of the mean over answer tokens of the cross entropy, so that each answer counts the same.

    ``label_smoothing`` is the share of each target that is spread evenly over the vocabulary.
    """
    nll = _nll(logits, targets, label_smoothing=label_smoothing)
    return (nll.sum(dim=-1) / targets.mask.sum(dim=-1)).mean()


def _nll(
    logits: Float[Tensor, "query token vocab"], targets: Targets, *, label_smoothing: float = 0.0
) -> Float[Tensor, "query token"]:
    flat = F.cross_entropy(
        logits.flatten(0, 1), targets.ids.flatten(), reduction="none", label_smoothing=label_smoothing
    )
    return flat.view_as(targets.ids).masked_fill(~targets.mask, 0.0)
