"""Two views of one passage without labels: random crops of its words (Contriever)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ragkit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class CropPolicy:
    """A crop is a run of ``shortest`` to ``longest`` (shares) of the words; then each goes with chance ``delete``.

    Contriever's own: 0.05 to 0.5 of the tokens, deletion 0.1. Words, so that any tokenizer fits.
    """

    shortest: float = 0.1
    longest: float = 0.5
    delete: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.shortest <= self.longest <= 1:
            raise ConfigError(f"crops need 0 < shortest <= longest <= 1, not {self.shortest} and {self.longest}")
        if not 0 <= self.delete < 1:
            raise ConfigError(f"delete must be at least 0 and below 1, not {self.delete}")


def crop(text: str, policy: CropPolicy, *, generator: torch.Generator) -> str:
    """One random crop; at least one word where there is one.

    >>> crop("a b c d", CropPolicy(0.5, 0.5, 0.0), generator=torch.Generator().manual_seed(0))
    'a b'
    """
    words = text.split()
    if not words:
        return ""
    share = policy.shortest + (policy.longest - policy.shortest) * float(torch.rand((), generator=generator))
    size = max(1, round(share * len(words)))
    start = int(torch.randint(len(words) - size + 1, (), generator=generator))
    keep = torch.rand(size, generator=generator) >= policy.delete
    kept = [word for word, stays in zip(words[start : start + size], keep.tolist(), strict=True) if stays]
    return " ".join(kept or words[start : start + 1])


def two_crops(text: str, policy: CropPolicy, *, generator: torch.Generator) -> tuple[str, str]:
    """Two crops drawn one after the other; they may overlap."""
    return crop(text, policy, generator=generator), crop(text, policy, generator=generator)
