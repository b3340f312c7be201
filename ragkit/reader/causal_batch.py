"""Prompts and answers as tensors, what a causal model finds likely for them, and what it writes itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from ragkit.reader.cache_name import cache_argument
from ragkit.reader.generation import ChoiceTrie, GenerationOptions, generation_config
from ragkit.reader.likelihood import AnswerLikelihood

NO_TARGET = -1


@dataclass(frozen=True, slots=True)
class CausalBatch:
    """Prompts and all but the last token of their answers, padded on the left so that answers end together.

    ``targets`` are the answers' tokens, right-aligned, -1 before them. The first ``n_cached`` columns are already in
    ``cache`` (their ``ids`` are padding); ``mask`` covers them too.
    """

    ids: Int64[Tensor, "row token"]
    mask: Bool[Tensor, "row token"]
    targets: Int64[Tensor, "row answer"]
    n_cached: int = 0
    cache: Cache | None = None

    @property
    def positions(self) -> Int64[Tensor, "row token"]:
        """Each token's place among the real tokens of its row."""
        return (self.mask.cumsum(dim=-1) - 1).clamp(min=0)


def make_batch(
    prompts: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    *,
    pad: int,
    cached: tuple[Cache, Bool[Tensor, "row cached"]] | None = None,
    device: torch.device,
) -> CausalBatch:
    """The batch of these prompts, the part in ``cached`` (with the mask of its real tokens) left out of them."""
    rows = [[*prompt, *target[:-1]] for prompt, target in zip(prompts, targets, strict=True)]
    width = max(map(len, rows))
    ids = torch.tensor([[*[pad] * (width - len(row)), *row] for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    mask = torch.arange(width, device=device) >= width - lengths[:, None]
    n_answer = max(map(len, targets))
    right = torch.tensor(
        [[*[NO_TARGET] * (n_answer - len(target)), *target] for target in targets], dtype=torch.int64, device=device
    ).reshape(len(rows), n_answer)
    if cached is None:
        return CausalBatch(ids, mask, right)
    cache, is_cached = cached
    before = ids.new_full(is_cached.shape, pad)
    return CausalBatch(torch.cat([before, ids], -1), torch.cat([is_cached, mask], -1), right, before.shape[1], cache)


def answer_losses(
    model: PreTrainedModel, batch: CausalBatch, *, label_smoothing: float = 0.0
) -> Float[Tensor, "row answer"]:
    """The cross entropy of every answer token, teacher forced, float32; right-aligned as the targets, 0 before them."""
    run: Any = model
    logits: Tensor = run(
        input_ids=batch.ids[:, batch.n_cached :],
        attention_mask=batch.mask.long(),
        position_ids=batch.positions[:, batch.n_cached :],
        **cache_argument(batch.cache),
        use_cache=batch.cache is not None,
        logits_to_keep=batch.targets.shape[1],
    ).logits.float()  # [row, answer, vocab]
    losses = F.cross_entropy(
        logits.flatten(0, 1),
        batch.targets.flatten(),
        ignore_index=NO_TARGET,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    return losses.view_as(batch.targets)


def collect_likelihood(
    scored: Iterable[tuple[Sequence[int], Float[Tensor, "row answer"]]],
    places: Sequence[tuple[int, int]],
    targets: Sequence[Sequence[int]],
    *,
    device: torch.device,
) -> AnswerLikelihood:
    """The losses of some rows, batch by batch, as likelihoods.

    Row ``i`` scored the answer ``targets[q]`` of question ``q`` given its set ``s``, where ``places[i]`` is ``(q, s)``.
    """
    n_sets = max((number for _, number in places), default=-1) + 1
    n_tokens = max(map(len, targets), default=0)
    tokens = torch.zeros(len(targets), n_sets, n_tokens, device=device)
    set_mask = torch.zeros(len(targets), n_sets, dtype=torch.bool, device=device)
    for rows, losses in scored:
        for row, line in zip(rows, losses, strict=True):
            query, number = places[row]
            n = len(targets[query])
            tokens[query, number, :n] = -line[len(line) - n :]
            set_mask[query, number] = True
    lengths = torch.tensor([len(target) for target in targets], dtype=torch.int64, device=device)
    token_mask = torch.arange(n_tokens, device=device) < lengths[:, None]
    return AnswerLikelihood(tokens, token_mask, set_mask)


@dataclass(frozen=True, slots=True)
class Written:
    """An answer's text, and the natural log-probability of its tokens and of the token that ended it, if one did."""

    text: str
    log_probability: float


class _StopTexts(StoppingCriteria):
    """Ends a row once a stop text follows something that is not white space."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str], *, n_prompt: int) -> None:
        self._tokenizer, self._stop, self._n_prompt = tokenizer, stop, n_prompt

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ARG002  transformers' signature
        texts = self._tokenizer.batch_decode(input_ids[:, self._n_prompt :], skip_special_tokens=True)
        return torch.tensor(
            [any(stop in text.lstrip() for stop in self._stop) for text in texts], device=input_ids.device
        )


@dataclass(frozen=True, slots=True)
class Writer:
    """What writing depends on beside the prompts: the tokenizer, its end tokens, the search, and what stops it."""

    tokenizer: PreTrainedTokenizerBase
    ends: tuple[int, ...]
    options: GenerationOptions
    stop: Sequence[str] = ()
    trie: ChoiceTrie | None = None

    def write(self, model: PreTrainedModel, batch: CausalBatch) -> list[Written]:
        """The answers of a batch without targets, through transformers' own ``generate``."""
        n_prompt = batch.ids.shape[1]
        config: Any = generation_config(
            self.options, start=self.ends[0], end=self.ends[0], pad=self.ends[0], trie=self.trie
        )
        config.update(
            eos_token_id=list(self.ends), return_dict_in_generate=True, output_logits=True, output_scores=True
        )
        stop = [] if self.trie else [_StopTexts(self.tokenizer, self.stop, n_prompt=n_prompt)]
        run: Any = model
        found = run.generate(
            input_ids=batch.ids,
            attention_mask=batch.mask.long(),
            **cache_argument(batch.cache),
            generation_config=config,
            stopping_criteria=StoppingCriteriaList(stop),
            prefix_allowed_tokens_fn=self.trie.after(n_prompt) if self.trie else None,
        )
        steps = run.compute_transition_scores(
            found.sequences, found.logits, found.get("beam_indices"), normalize_logits=True
        )  # [row, step]
        rows = zip(found.sequences[:, n_prompt:].tolist(), steps.tolist(), strict=True)
        return [self._read(ids, log_probs) for ids, log_probs in rows]

    def _read(self, ids: Sequence[int], log_probs: Sequence[float]) -> Written:
        """The text up to its end, and its log-probability; ``ids`` may go on after it with padding."""
        limit = self.trie.longest if self.trie else self.options.max_tokens
        total = 0.0
        kept: list[int] = []
        for token, log_prob in zip(ids, log_probs, strict=False):
            if token not in self.ends and len(kept) == limit:
                break
            total += log_prob
            if token in self.ends:
                break
            kept.append(token)
            text = str(self.tokenizer.decode(kept, skip_special_tokens=True))
            if self._stop_at(text) is not None:
                return Written(text[: self._stop_at(text)].strip(), total)
        return Written(str(self.tokenizer.decode(kept, skip_special_tokens=True)).strip(), total)

    def _stop_at(self, text: str) -> int | None:
        """Where the first stop text begins that follows something else."""
        blank = len(text) - len(text.lstrip())
        places = [text.find(stop, blank) for stop in (() if self.trie else self.stop)]
        return min((place for place in places if place >= 0), default=None)
