"""What a generative encoder-decoder sees: the question before each passage's title and text, each passage alone."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

from ragkit.errors import ConfigError, InputError
from ragkit.text.templates import PASSAGE_FIELDS, QUERY_FIELDS, Template
from ragkit.text.tokens import clean_text
from ragkit.types import Passage

log = logging.getLogger(__name__)
MemoryForm = Literal["states", "states_and_words"]
ALONE = -1  # the owner of a question that is read without any passage
_MIN_TEXT = 8  # tokens of a passage that the longest question still leaves room for


@dataclass(frozen=True, slots=True)
class FusionOptions:
    """How a question and one passage become one input of the encoder, and what the decoder sees of it.

    ``question`` and ``passage`` are :class:`ragkit.text.templates.Template` patterns; the input is the one, a space,
    the other (FiD: "question: ... title: ... context: ..."). ``max_length`` is in tokens and counts everything; what is
    over it is cut from the passage's end. A question over ``max_question`` tokens is cut at its own end.

    ``memory``: ``states`` are the encoder's outputs (FiD); ``states_and_words`` adds the word vectors of the input to
    them, so that a decoder whose output is tied to the same vectors can copy. ``closed_book``: a question without
    passages is answered from the question alone; else its answer is the empty prediction.

    ``answer_start`` stands before every answer in the decoder and is not counted as part of it (Atlas:
    "<extra_id_0>"). Special tokens of the tokenizer work as such in the patterns and in ``answer_start``; written in a
    question, a passage or an answer they are text.
    """

    max_length: int = 200
    max_question: int = 48
    question: str = "question: {text}"
    passage: str = "title: {title} context: {text}"
    memory: MemoryForm = "states"
    closed_book: bool = True
    answer_start: str = ""

    def __post_init__(self) -> None:
        if self.max_question < 1:
            raise ConfigError(f"max_question is {self.max_question}; it must be 1 or more")
        Template(self.question, fields=QUERY_FIELDS)
        Template(self.passage, fields=PASSAGE_FIELDS)


class EncoderInput(NamedTuple):
    """The tokens of one input of the encoder, and the number of the passage in it (:data:`ALONE`: there is none)."""

    ids: list[int]
    passage: int


@dataclass(frozen=True, slots=True)
class FusionInputs:
    """Each question's inputs, one a passage, in the retriever's order; ``n_cut`` counts the questions cut."""

    lines: list[list[EncoderInput]]
    n_cut: int

    @property
    def lengths(self) -> list[int]:
        """Tokens of each question's memory: all of its inputs together."""
        return [sum(len(one.ids) for one in line) for line in self.lines]

    def take(self, rows: Sequence[int]) -> FusionInputs:
        """The inputs of some of the questions."""
        return FusionInputs([self.lines[row] for row in rows], 0)


def warn_of_cuts(inputs: FusionInputs, *, limit: int) -> None:
    """One warning that counts the questions that were cut, if any were."""
    if inputs.n_cut:
        log.warning(
            "%d of %d questions have more than %d tokens and were cut at their end",
            inputs.n_cut,
            len(inputs.lines),
            limit,
        )


class PromptEncoder:
    """Questions, passages and answers to tokens, for one (fast) tokenizer and one set of options.

    Raises ConfigError where the limits leave no room for a passage.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, options: FusionOptions) -> None:
        if not tokenizer.is_fast:
            raise ConfigError(f"{type(tokenizer).__name__} is a slow tokenizer; a generative reader needs a fast one")
        self.tokenizer, self.options = tokenizer, options
        self._question = Template(options.question, fields=QUERY_FIELDS)
        self._passage = Template(options.passage, fields=PASSAGE_FIELDS)
        self._special = _special_pattern(tokenizer)
        self.before, self.after = _special_tokens(tokenizer)
        self.answer_start = self._ids([options.answer_start])[0] if options.answer_start else []
        longest = options.max_question + len(self._ids([self._question.render("")])[0])
        least = len(self.before) + longest + _MIN_TEXT + len(self.after)
        if options.max_length < least:
            raise ConfigError(
                f"max_length {options.max_length} leaves no room for a passage after max_question "
                f"{options.max_question}; it must be at least {least}"
            )

    def encode(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        *,
        with_alone: bool = False,
    ) -> FusionInputs:
        """The inputs of every question: one a passage, and the question alone where there is none.

        ``with_alone`` adds the question alone after its only passage, which is what leaving that one out leaves.
        InputError where the lists differ in length.
        """
        if len(questions) != len(passages):
            raise InputError(
                f"{len(questions)} questions with {len(passages)} lists of passages; give each question its list"
            )
        heads, n_cut = self._questions(questions)
        # a passage's text is tokenised with the space before it, as in one text: byte-level vocabularies need it
        texts = self._ids(
            [
                f" {self._passage.render(self._text(passage.text), title=self._text(passage.title))}"
                for line in passages
                for passage in line
            ]
        )
        found = iter(texts)
        lines = [
            [EncoderInput(self._join(head, next(found)), row) for row in range(len(line))]
            for head, line in zip(heads, passages, strict=True)
        ]
        for head, line in zip(heads, lines, strict=True):
            if len(line) <= int(with_alone):
                line.append(EncoderInput(self._join(head, []), ALONE))
        return FusionInputs(lines, n_cut)

    def answers(self, answers: Sequence[str]) -> list[list[int]]:
        """The tokens of each answer, without end token; InputError for an answer that has none."""
        found = self._ids([self._text(answer) for answer in answers], cut=False)
        empty = [row for row, ids in enumerate(found) if not ids]
        if empty:
            shown = ", ".join(f"{answers[row]!r} (number {row})" for row in empty[:5])
            raise InputError(f"{len(empty)} answers have no tokens: {shown}; give answers with some text")
        return found

    def _questions(self, questions: Sequence[str]) -> tuple[list[list[int]], int]:
        """The tokens of every question in its template, and how many questions were cut before."""
        if not questions:
            return [], 0
        limit = self.options.max_question
        cleaned = [self._text(question) for question in questions]
        encoded = self.tokenizer(
            cleaned,
            add_special_tokens=False,
            truncation=True,
            max_length=limit + 1,
            return_offsets_mapping=True,
        )
        texts, n_cut = [], 0
        for question, offsets in zip(cleaned, encoded["offset_mapping"], strict=True):
            is_cut = len(offsets) > limit
            n_cut += is_cut
            texts.append(question[: offsets[limit - 1][1]] if is_cut else question)
        return self._ids([self._question.render(text) for text in texts]), n_cut

    def _join(self, head: Sequence[int], text: Sequence[int]) -> list[int]:
        room = self.options.max_length - len(self.before) - len(head) - len(self.after)
        return [*self.before, *head, *text[: max(room, 0)], *self.after]

    def _ids(self, texts: Sequence[str], *, cut: bool = True) -> list[list[int]]:
        if not texts:
            return []
        limits: dict[str, Any] = {"truncation": True, "max_length": self.options.max_length} if cut else {}
        encoded = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
            **limits,
        )
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _text(self, text: str) -> str:
        """What a user wrote, its special tokens parted: "</s>" in a passage is text, never the end of it.

        The tokenizer's own ``split_special_tokens`` does not do: a sentencepiece vocabulary holds them as pieces too.
        """
        return self._special.sub(lambda found: f"{found.group()[0]} {found.group()[1:]}", clean_text(text))


def _special_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    names = sorted({*tokenizer.all_special_tokens, *added}, key=lambda name: (-len(name), name))
    return re.compile("|".join(re.escape(name) for name in names) or r"(?!)")


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a single text."""
    probe = "a"
    bare, full = tokenizer(probe, add_special_tokens=False)["input_ids"], tokenizer(probe)["input_ids"]
    for at in range(len(full) - len(bare) + 1):
        if full[at : at + len(bare)] == bare:
            return full[:at], full[at + len(bare) :]
    raise ConfigError(f"{type(tokenizer).__name__} changes a text's tokens when it adds special tokens; use another")
