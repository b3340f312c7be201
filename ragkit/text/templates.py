"""How the text given to an encoder is made of a question or of a passage's title and text."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field

from ragkit.errors import ConfigError
from ragkit.types import Passage

QUERY_FIELDS = ("text",)
PASSAGE_FIELDS = ("title", "text")
_LABEL = re.compile(r"\w[\w ]*:\s*$")  # "text: " at the end of the literal before a field names that field


@dataclass(frozen=True, slots=True)
class Template:
    """A pattern with the fields ``{title}`` and ``{text}``, checked when it is made.

    A passage without a title leaves no trace of it: the separator between title and text goes too, and so does the
    title's own label where the text has one as well.

    >>> template = Template("{title}. {text}")
    >>> template.render("A tale of two cities.", title="Dickens")
    'Dickens. A tale of two cities.'
    >>> template.render("A tale of two cities.")
    'A tale of two cities.'
    >>> Template("title: {title} | text: {text}").render("Paris")
    'text: Paris'
    """

    pattern: str
    fields: tuple[str, ...] = PASSAGE_FIELDS
    _untitled: str = field(init=False, repr=False, compare=False)
    _prefix: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = self._parse()
        names = [name for _, name in parts if name is not None]
        for name in names:
            if name not in self.fields:
                raise ConfigError(f"unknown field {{{name}}} in template {self.pattern!r}; choose from {self.fields}")
        if names.count("text") != 1 or names.count("title") > 1:
            raise ConfigError(f"template {self.pattern!r} must hold {{text}} once and {{title}} at most once")
        object.__setattr__(self, "_untitled", _without_title(parts))
        object.__setattr__(self, "_prefix", parts[0][0])

    def _parse(self) -> list[tuple[str, str | None]]:
        try:
            parsed = list(string.Formatter().parse(self.pattern))
        except ValueError as error:
            raise ConfigError(f"template {self.pattern!r} cannot be read: {error}; write {{{{ for a brace") from error
        if any(spec or conversion for _, _, spec, conversion in parsed):
            raise ConfigError(
                f"template {self.pattern!r} may hold {{title}} and {{text}}, without format or conversion"
            )
        parts: list[tuple[str, str | None]] = []
        pending = ""  # the formatter ends a literal at each escaped brace
        for literal, name, _, _ in parsed:
            pending += literal
            if name is not None:
                parts.append((pending, name))
                pending = ""
        return [*parts, (pending, None)]

    @property
    def prefix(self) -> str:
        """The literal text before the first field: what sentence-transformers calls a prompt."""
        return self._prefix

    @property
    def has_title(self) -> bool:
        """True where the pattern uses the title."""
        return self._untitled != self.pattern

    def render(self, text: str, *, title: str = "") -> str:
        """The text for the encoder; a blank title counts as missing."""
        if title.strip():
            return self.pattern.format(title=title, text=text)
        return self._untitled.format(text=text)

    def render_passage(self, passage: Passage) -> str:
        """The text for the encoder of one passage."""
        return self.render(passage.text, title=passage.title)


def _without_title(parts: list[tuple[str, str | None]]) -> str:
    """The pattern for a passage that has no title."""
    literals = [literal.replace("{", "{{").replace("}", "}}") for literal, _ in parts]
    names = [name for _, name in parts]
    if "title" not in names:
        return "".join(_piece(literal, name) for literal, name in zip(literals, names, strict=True))
    at = names.index("title")
    if "text" in names[:at]:  # "{text} ({title})": all that follows the text belongs to the title
        return "".join(_piece(literal, name) for literal, name in zip(literals[:at], names[:at], strict=True))
    before, after = literals[at], literals[at + 1]
    label = _LABEL.search(after)
    if label:  # "title: {title} text: {text}": the text keeps its label, the title's goes
        return _LABEL.sub("", before) + label.group() + "{text}" + "".join(literals[at + 2 :])
    return before + "{text}" + "".join(literals[at + 2 :])


def _piece(literal: str, name: str | None) -> str:
    return literal if name is None else f"{literal}{{{name}}}"
