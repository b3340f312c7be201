"""How an encoder treats its texts: pooling, normalisation, templates, lengths."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ragkit.errors import ConfigError
from ragkit.retriever.pooling import POOLERS
from ragkit.text.templates import QUERY_FIELDS, Template

_KINDS: dict[str, type] = {"str": str, "bool": bool, "int": int}


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """What must be the same whenever one encoder is used; all of it is part of the encoder's digest.

    ``pooling`` is "mean", "cls" or "last"; the templates are those of :class:`ragkit.text.Template`, the query's
    with ``{text}`` alone; the maximal lengths count tokens, special ones included.
    """

    pooling: str = "mean"
    normalize: bool = False
    query_template: str = "{text}"
    passage_template: str = "{title} {text}"
    query_max_length: int = 64
    passage_max_length: int = 256

    def __post_init__(self) -> None:
        if self.pooling not in POOLERS:
            raise ConfigError(f"unknown pooling {self.pooling!r}; choose from {sorted(POOLERS)}")
        for name in ("query_max_length", "passage_max_length"):
            if getattr(self, name) < 3:  # noqa: PLR2004  two special tokens and one of the text
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 3 tokens")
        Template(self.query_template, QUERY_FIELDS)
        Template(self.passage_template)

    def changed(self, changes: Mapping[str, object]) -> EncoderOptions:
        """The same options with some replaced; None leaves an option as it is. ConfigError for an unknown name."""
        kinds = {field.name: _KINDS[str(field.type)] for field in dataclasses.fields(self)}
        kept: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in kinds:
                raise ConfigError(f"unknown encoder option {name!r}; choose from {sorted(kinds)}")
            if value is None:
                continue
            if type(value) is not kinds[name]:
                raise ConfigError(f"encoder option {name} must be of type {kinds[name].__name__}; got {value!r}")
            kept[name] = value
        return dataclasses.replace(self, **kept)

    def to_dict(self) -> dict[str, Any]:
        """The options by name."""
        return dataclasses.asdict(self)
