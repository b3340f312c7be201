"""Records of JSON files with the line they start at, and strict access to their fields."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ragkit.corpus.read import clean_text
from ragkit.errors import FormatError
from ragkit.types import Passage, ScoredPassage

PASSAGE_IDS = ("id", "passage_id", "docid", "psg_id", "_id")
_NAMES = {str: "text", int: "an integer", float: "a number", bool: "true or false", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True)
class Record:
    """One JSON object of a file: where it starts and what it holds.

    ``place`` says which part of the file's record this is (``"record 3, ctxs[0]"``), for messages.
    """

    path: Path
    line: int
    value: Mapping[str, Any]
    place: str = ""

    def fault(self, reason: str) -> FormatError:
        """The error of this record, to raise."""
        return FormatError(self.path, self.line, f"{self.place}: {reason}" if self.place else reason)

    def __contains__(self, key: str) -> bool:
        return self.value.get(key) is not None

    def text(self, *keys: str, default: str | None = None) -> str:
        """The text of the first of ``keys`` that is there; an absent (or null) one is ``default`` where that is given.

        Raises:
            FormatError: none is there, or it is not text.
        """
        for key in keys:
            if self.value.get(key) is not None:
                return self._checked(self.value[key], key)
        if default is None:
            raise self.fault(f"no {' or '.join(map(repr, keys))} here; found {sorted(self.value)}")
        return default

    def identifier(self, *keys: str, default: str | None = None) -> str:
        """The id of the first of ``keys`` that is there; an integer becomes its decimal text.

        Raises:
            FormatError: as :meth:`text`, or the id is empty, or holds a NUL or a lone surrogate.
        """
        for key in keys:
            value = self.value.get(key)
            if isinstance(value, int) and not isinstance(value, bool):
                return str(value)
            if value == "":
                raise self.fault(f"{key!r} is empty")
        found = self.text(*keys, default=default)
        if found != clean_text(found):
            raise self.fault(f"the id {found!r} holds a NUL or half of a surrogate pair")
        return found

    def texts(self, *keys: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """The list of texts of the first of ``keys`` that is there.

        Raises:
            FormatError: as :meth:`text`, or the value is not a list of texts.
        """
        for key in keys:
            if self.value.get(key) is not None:
                return tuple(self._checked(item, f"{key}[{i}]") for i, item in enumerate(self._list(key)))
        if default is None:
            raise self.fault(f"no {' or '.join(map(repr, keys))} here; found {sorted(self.value)}")
        return default

    def answers(self, *keys: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """As :meth:`texts`; no answer may be blank, since a blank one is found in every text.

        Raises:
            FormatError: as :meth:`texts`, or an answer is blank.
        """
        found = self.texts(*keys, default=default)
        if not all(answer.strip() for answer in found):
            raise self.fault(f"{keys[0]!r} has a blank answer; give [] where there is none")
        return found

    def nonblank(self, *keys: str) -> str:
        """Text that is not blank.

        Raises:
            FormatError: as :meth:`text`, or it is blank.
        """
        found = self.text(*keys)
        if not found.strip():
            raise self.fault(f"{keys[0]!r} is blank")
        return found

    def number(self, key: str, *, default: float | None = None) -> float:
        """A number, given as such or (as DPR writes scores) as text.

        Raises:
            FormatError: it is absent without a default, or it is no finite number.
        """
        value = self.value.get(key)
        if value is None and default is not None:
            return default
        try:
            found = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
        except (ValueError, OverflowError):
            found = None
        if found is None or not math.isfinite(found):
            raise self.fault(f"wanted a number in {key!r}, got {shown(value)}")
        return found

    def parts(self, key: str, *, default: bool = False) -> list[Record]:
        """The objects of a list, as records; an absent list is empty where ``default`` is true.

        Raises:
            FormatError: the list is absent, or is not a list of objects.
        """
        if self.value.get(key) is None and default:
            return []
        return [self.inner(item, f"{key}[{i}]") for i, item in enumerate(self._list(key))]

    def part(self, key: str) -> Record:
        """The object of a key, as a record.

        Raises:
            FormatError: it is absent or not an object.
        """
        return self.inner(self.value.get(key), key)

    def inner(self, value: object, place: str) -> Record:
        """A part of this record, as a record that knows its place.

        Raises:
            FormatError: the value is not an object.
        """
        if not isinstance(value, Mapping):
            raise self.fault(f"wanted an object in {place}, got {shown(value)}")
        return Record(self.path, self.line, value, f"{self.place}, {place}" if self.place else place)

    def _list(self, key: str) -> list[Any]:
        value = self.value.get(key)
        if not isinstance(value, list):
            raise self.fault(f"wanted a list in {key!r}, got {shown(value)}")
        return value

    def _checked(self, value: object, key: str) -> str:
        if not isinstance(value, str):
            raise self.fault(f"wanted text in {key!r}, got {shown(value)}")
        return value


def shown(value: object) -> str:
    """A value in a message: its kind and its beginning."""
    if value is None:
        return "nothing"
    kind = _NAMES.get(type(value), type(value).__name__)
    text = repr(value)
    return f"{kind} {text[:60]}{'...' if len(text) > 60 else ''}"


def question_id(question: str) -> str:
    """The id of a question whose file gives none: ``q-`` and 16 hex digits of the SHA-256 of its UTF-8 text."""
    return "q-" + hashlib.sha256(clean_text(question).encode()).hexdigest()[:16]


def passage_id(title: str, text: str) -> str:
    """The id of a passage whose file gives none: ``p-`` and 16 hex digits of the SHA-256 of title, LF and text."""
    return "p-" + hashlib.sha256(clean_text(f"{title}\n{text}").encode()).hexdigest()[:16]


def passage_of(record: Record, *id_keys: str) -> Passage:
    """The passage of a ``{id, title, text}`` object; its id is that of the first of ``id_keys`` there, or derived.

    Raises:
        FormatError: there is no text, or a field is not text.
    """
    title, text = record.text("title", default=""), record.text("text")
    return Passage(id=record.identifier(*id_keys, default=passage_id(title, text)), title=title, text=text)


def hits_of(record: Record, key: str, *, needs_score: bool = False) -> tuple[ScoredPassage, ...]:
    """The retrieved passages of a list of ``{id?, title, text, score?}``, in its order (best first).

    DPR's ``wiki:7`` is the passage ``7``. Without scores the hit of rank r (from 1) gets 1/r, which keeps the order.

    Raises:
        FormatError: a field is absent or of another kind.
    """
    hits = []
    for rank, ctx in enumerate(record.parts(key, default=not needs_score), start=1):
        passage = passage_of(ctx, *PASSAGE_IDS)
        score = ctx.number("score", default=None if needs_score else 1 / rank)
        hits.append(ScoredPassage(replace(passage, id=passage.id.removeprefix("wiki:") or passage.id), score))
    return tuple(hits)
