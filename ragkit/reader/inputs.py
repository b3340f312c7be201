"""What an extractive reader sees: ``[CLS] question [SEP] title [SEP] text [SEP]``, each passage alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ragkit.corpus.read import clean_text
from ragkit.errors import ConfigError
from ragkit.types import Passage

_MIN_TEXT = 8  # tokens of a passage's text that the longest question and title still leave room for


@dataclass(frozen=True, slots=True)
class InputOptions:
    """The limits of one input, in tokens; what is over a limit is cut at its end.

    ``max_length`` counts everything, separators included (DPR: 350); ``segments`` gives title and text the segment 1,
    as in BERT's sentence pairs, where the model has segments (the published DPR readers use 0 everywhere).
    """

    max_length: int = 192
    max_question: int = 48
    max_title: int = 24
    segments: bool = True

    def __post_init__(self) -> None:
        least = self.max_question + self.max_title + 4 + _MIN_TEXT
        if min(self.max_question, self.max_title) < 1 or self.max_length < least:
            raise ConfigError(
                f"max_length {self.max_length} leaves no room for a passage after max_question {self.max_question} "
                f"and max_title {self.max_title}; it must be at least {least}"
            )


@dataclass(frozen=True, slots=True)
class EncodedPassage:
    """One question with one passage, as tokens.

    The passage's text starts at token ``text_at`` and has one line of ``offsets`` (characters of ``Passage.text``,
    end exclusive) and one entry of ``words`` (the word a token belongs to) for every token; the segment 1 starts at
    ``second_segment``.
    """

    ids: Int64[np.ndarray, " token"]
    second_segment: int
    text_at: int
    offsets: Int64[np.ndarray, "text 2"]
    words: Int64[np.ndarray, " text"]


@dataclass(frozen=True, slots=True)
class ReaderBatch:
    """The passages of some questions, padded to one length; a missing passage is a line without a true mask."""

    ids: Int64[Tensor, "query passage token"]
    mask: Bool[Tensor, "query passage token"]
    segments: Int64[Tensor, "query passage token"]

    def to(self, device: torch.device) -> ReaderBatch:
        """The same batch on another device."""
        return ReaderBatch(self.ids.to(device), self.mask.to(device), self.segments.to(device))


@dataclass(frozen=True, slots=True)
class EncodedQuestions:
    """The tokens of every question, and how many of the questions were cut."""

    ids: list[list[int]]
    n_cut: int


class InputEncoder:
    """Questions and passages to tokens, for one tokenizer (a fast one, with CLS and SEP) and one set of limits."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, options: InputOptions) -> None:
        if not tokenizer.is_fast:
            raise ConfigError(
                f"the reader needs character offsets, and {type(tokenizer).__name__} gives none: use a fast tokenizer"
            )
        if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
            raise ConfigError(
                f"the reader needs a tokenizer with CLS and SEP tokens; {tokenizer.name_or_path} has none"
            )
        self.tokenizer, self.options = tokenizer, options
        self._cls, self._sep = int(tokenizer.cls_token_id), int(tokenizer.sep_token_id)

    def questions(self, questions: Sequence[str]) -> EncodedQuestions:
        """The questions' tokens; each question is tokenised, cut and counted once, however many passages it has."""
        limit = self.options.max_question
        found = self._tokens(questions, limit=limit + 1)
        return EncodedQuestions(
            [ids[:limit] for ids in found["input_ids"]], sum(len(ids) > limit for ids in found["input_ids"])
        )

    def pairs(self, questions: Sequence[Sequence[int]], passages: Sequence[Passage]) -> list[EncodedPassage]:
        """The tokens of a question before each passage. A passage without a title has no empty slot for it."""
        if not passages:
            return []
        titles = self._tokens([passage.title for passage in passages], limit=self.options.max_title)["input_ids"]
        texts = self._tokens([passage.text for passage in passages], limit=self.options.max_length)
        return [self._join(*pair, texts=texts, row=row) for row, pair in enumerate(zip(questions, titles, strict=True))]

    def _tokens(self, texts: Sequence[str], *, limit: int) -> Any:
        return self.tokenizer(
            [clean_text(text) for text in texts],  # letter for letter, so that the offsets are the text's own
            add_special_tokens=False,
            split_special_tokens=True,  # "[SEP]" written in a passage is text, never a separator
            truncation=True,
            max_length=limit,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
        )

    def _join(self, question: Sequence[int], title: Sequence[int], *, texts: Any, row: int) -> EncodedPassage:
        head = [self._cls, *question, self._sep]
        before = [*head, *title, self._sep] if title else head
        room = self.options.max_length - len(before) - 1
        text = texts["input_ids"][row][:room]
        return EncodedPassage(
            ids=np.array([*before, *text, self._sep], dtype=np.int64),
            second_segment=len(head),
            text_at=len(before),
            offsets=np.array(texts["offset_mapping"][row][:room], dtype=np.int64).reshape(-1, 2),
            words=np.array(texts.word_ids(row)[:room], dtype=np.int64),
        )

    def batch(self, passages: Sequence[Sequence[EncodedPassage]]) -> ReaderBatch:
        """The passages of each question, padded on the right to the longest and at the bottom to the most numerous."""
        n_passages = max(len(line) for line in passages)
        n_tokens = max(len(passage.ids) for line in passages for passage in line)
        shape = (len(passages), n_passages, n_tokens)
        pad = self.tokenizer.pad_token_id
        ids = np.full(shape, 0 if pad is None else pad, dtype=np.int64)
        mask, segments = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.int64)
        for query, line in enumerate(passages):
            for column, passage in enumerate(line):
                n = len(passage.ids)
                ids[query, column, :n] = passage.ids
                mask[query, column, :n] = True
                if self.options.segments:
                    segments[query, column, passage.second_segment : n] = 1
        return ReaderBatch(torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(segments))


def pad_spans(spans: Sequence[Sequence[tuple[int, int]]]) -> Int[Tensor, "query span 2"]:
    """The spans of each question as one tensor, -1 where a question has fewer than the most."""
    most = max(len(line) for line in spans)
    return torch.tensor([[*line, *[(-1, -1)] * (most - len(line))] for line in spans], dtype=torch.int64).reshape(
        len(spans), most, 2
    )
