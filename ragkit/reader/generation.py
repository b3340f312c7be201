"""How a generative reader writes its answer: search, limits, and answers bound to a list of choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GenerationConfig

from ragkit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """``beams`` 1 is greedy; tokens are counted without the end token.

    ``length_penalty`` is the power of the length that a beam's log-likelihood is divided by (above 0 favours longer
    answers). ``choices``: the answer is one of these texts, and the limits on tokens do not count.
    """

    beams: int = 1
    length_penalty: float = 1.0
    min_tokens: int = 1
    max_tokens: int = 32
    choices: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise ConfigError(f"beams is {self.beams}; it must be 1 (greedy) or more")
        if not 0 <= self.min_tokens <= self.max_tokens or self.max_tokens < 1:
            raise ConfigError(
                f"min_tokens {self.min_tokens} and max_tokens {self.max_tokens} must be 0 <= min <= max, max at least 1"
            )
        if isinstance(self.choices, str):
            raise ConfigError(f"choices must be a list of texts, got one text; write [{self.choices!r}]")
        object.__setattr__(self, "choices", tuple(self.choices))  # a list from YAML or JSON
        if len(set(self.choices)) < len(self.choices):
            raise ConfigError(
                f"choices are given twice: {sorted({c for c in self.choices if self.choices.count(c) > 1})}"
            )


class ChoiceTrie:
    """Which tokens may follow, so that what is written is one of some token sequences and then the end token.

    >>> trie = ChoiceTrie([[5, 6], [5, 7, 8]], end=1)
    >>> trie.allowed([]), trie.allowed([5]), trie.allowed([5, 6]), trie.allowed([5, 6, 1])
    ([5], [6, 7], [1], [1])
    """

    def __init__(self, choices: Sequence[Sequence[int]], *, end: int) -> None:
        self.end = end
        self.longest = max(len(choice) for choice in choices)
        self._choices = [tuple(choice) for choice in choices]
        self._next: dict[tuple[int, ...], set[int]] = {}
        for choice in choices:
            ids = (*choice, end)
            for at, token in enumerate(ids):
                self._next.setdefault(ids[:at], set()).add(token)

    def allowed(self, ids: Sequence[int]) -> list[int]:
        """The tokens that may follow ``ids``; the end token where nothing else can."""
        return sorted(self._next.get(tuple(ids), {self.end}))

    def number(self, ids: Sequence[int]) -> int:
        """Which choice these tokens are."""
        return self._choices.index(tuple(ids))

    def after(self, n_start: int) -> Callable[[int, Tensor], list[int]]:
        """What transformers asks for as ``prefix_allowed_tokens_fn``, the first ``n_start`` tokens left out."""

        def allowed_tokens(_row: int, ids: Tensor) -> list[int]:
            return self.allowed(ids[n_start:].tolist())

        return allowed_tokens


def generation_config(
    options: GenerationOptions, *, start: int, end: int, pad: int, trie: ChoiceTrie | None = None
) -> GenerationConfig:
    """The options as transformers' ``generate`` takes them."""
    return GenerationConfig(  # type: ignore[no-untyped-call]
        num_beams=options.beams,
        length_penalty=options.length_penalty,
        early_stopping=False,
        do_sample=False,
        max_new_tokens=trie.longest + 1 if trie else options.max_tokens,
        min_new_tokens=0 if trie else options.min_tokens,
        decoder_start_token_id=start,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=pad,
    )


def cut_at_end(ids: Sequence[int], *, end: int) -> list[int]:
    """The tokens before the end token.

    >>> cut_at_end([4, 5, 1, 0], end=1), cut_at_end([4, 5, 6], end=1)
    ([4, 5], [4, 5, 6])
    """
    found = list(ids)
    return found[: found.index(end) if end in found else len(found)]


def pad_ids(ids: Sequence[Sequence[int]], *, pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids ``[row, token]`` padded on the right, and the mask of real ones."""
    width = max(len(row) for row in ids)
    padded = torch.tensor([[*row, *[pad] * (width - len(row))] for row in ids], dtype=torch.int64, device=device)
    lengths = torch.tensor([len(row) for row in ids], device=device)
    return padded, torch.arange(width, device=device) < lengths[:, None]
