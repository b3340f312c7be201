"""Questions made from raw passages, so that retriever and reader can be trained together before there are questions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ragkit.corpus import PassageStore
from ragkit.errors import ConfigError, InputError
from ragkit.seeding import make_generator
from ragkit.types import Example, Passage

_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATE = rf"(?:\d{{1,2}} )?(?:{_MONTH})(?: \d{{1,2}}(?!\d))?(?:,? \d{{4}})?"
_NUMBER = r"\d(?:[\d.,]*\d)?"
_NAME = r"[A-Z][\w'’-]+(?: (?:(?:of|the|de|la|van|von|and) )?[A-Z][\w'’-]+)*"
_SALIENT = re.compile(rf"\b(?:{_DATE}|{_NUMBER}|{_NAME})")
_SENTENCE_END = re.compile(r"[.!?]['\"”)]*\s+$")
_WINDOW = 4096  # passages read at once


@dataclass(frozen=True, slots=True)
class PretextOptions:
    """What is asked about a passage.

    ``kind`` "salient" hides one name, date or number (REALM, Guu et al. 2020), "span" several runs of words, each by a
    sentinel of T5 (``density`` of the words in runs of ``length`` on average), "title" asks for the text under the
    title. ``mask`` stands in place of a salient span (T5 readers know ``<extra_id_0>``). ``words`` is how much of the
    passage the question (or the answer, for "title") holds at most. ``count`` passages are drawn by ``seed`` (None:
    all). Take ``finding.exclude_own=true`` with it: the passage itself answers every question about it.
    """

    kind: Literal["salient", "span", "title"] = "salient"
    count: int | None = None
    mask: str = "[MASK]"
    words: int = 32
    density: float = 0.15
    length: float | int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.count is not None and self.count < 1) or self.words < 4:  # noqa: PLR2004  less is no question
            raise ConfigError(f"pretext count must be 1 or more and words 4 or more: {self.count}, {self.words}")
        if not 0 < self.density < 1 or self.length < 1:
            raise ConfigError(
                f"pretext density must be between 0 and 1, length 1 or more: {self.density}, {self.length}"
            )


def pretext_examples(store: PassageStore, options: PretextOptions) -> list[Example]:
    """An example of every drawn passage that has something to ask for; its id is the passage's.

    Depends on the options' seed and the passage alone. Raises InputError where no passage has anything.
    """
    order = torch.randperm(len(store), generator=make_generator(options.seed, "pretext")).numpy()
    rows = np.sort(order[: options.count])
    found = []
    for start in range(0, len(rows), _WINDOW):
        for passage in store.take(rows[start : start + _WINDOW]):
            pair = _asked(passage, options)
            if pair is not None:
                found.append(Example(passage.id, pair[0], (pair[1],)))
    if not found:
        raise InputError(f"none of {len(rows)} passages has what pretext kind={options.kind} asks for")
    return found


def salient_spans(text: str) -> list[tuple[int, int]]:
    """Names, dates and numbers as (begin, end) in characters; a lone capital word that begins a sentence is no name.

    >>> text = "The old king Karl of Baden died on 3 May 1746. Nobody cared."
    >>> [text[begin:end] for begin, end in salient_spans(text)]
    ['Karl of Baden', '3 May 1746']
    """
    return [match.span() for match in _SALIENT.finditer(text) if not _begins_sentence(match, text)]


def _begins_sentence(match: re.Match[str], text: str) -> bool:
    is_word = match.group()[0].isalpha() and " " not in match.group()
    begin = match.start()
    return is_word and (begin == 0 or bool(_SENTENCE_END.search(text, max(0, begin - 6), begin)))


def _asked(passage: Passage, options: PretextOptions) -> tuple[str, str] | None:
    """The question and the answer, or None."""
    generator = make_generator(options.seed, "pretext", passage.id)
    if options.kind == "title":
        answer = " ".join(passage.text.split()[: options.words])
        return (passage.title, answer) if passage.title.strip() and answer else None
    if options.kind == "span":
        return _corrupted(passage.text.split()[: options.words], options, generator)
    spans = salient_spans(passage.text)
    if not spans:
        return None
    begin, end = spans[int(torch.randint(len(spans), (), generator=generator))]
    before, after = passage.text[:begin].split(), passage.text[end:].split()
    # the words around the span: a limit on the question's tokens must not cut the mask off
    room = max(1, options.words // 2)
    parts = [*before[max(0, len(before) - room) :], options.mask, *after[: max(room, options.words - len(before))]]
    return " ".join(parts), passage.text[begin:end]


def _corrupted(words: list[str], options: PretextOptions, generator: torch.Generator) -> tuple[str, str] | None:
    """T5's span corruption: runs of words replaced by sentinels, which the answer lists with what they hide."""
    if len(words) < 2:  # noqa: PLR2004
        return None
    hidden = np.zeros(len(words), dtype=np.bool_)
    for begin, size in _runs(len(words), options, generator):
        hidden[begin : begin + size] = True
    if hidden.all():
        hidden[0] = False
    question: list[str] = []
    answer: list[str] = []
    n_runs = 0
    for place, word in enumerate(words):
        if hidden[place] and (place == 0 or not hidden[place - 1]):
            question.append(f"<extra_id_{n_runs}>")
            answer.append(f"<extra_id_{n_runs}>")
            n_runs += 1
        (answer if hidden[place] else question).append(word)
    return " ".join(question), " ".join([*answer, f"<extra_id_{n_runs}>"])


def _runs(count: int, options: PretextOptions, generator: torch.Generator) -> Iterator[tuple[int, int]]:
    """Where runs begin and how long they are, until about ``density`` of the words are hidden."""
    left = max(1, round(options.density * count))
    while left > 0:
        size = min(left, 1 + int(torch.poisson(torch.tensor(float(options.length) - 1), generator=generator)))
        yield int(torch.randint(max(1, count - size + 1), (), generator=generator)), size
        left -= size
