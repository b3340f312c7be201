"""What a causal model sees: one prompt of instruction, passages, question and cue, packed to a budget of tokens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ragkit.corpus.read import clean_text
from ragkit.errors import ConfigError, InputError
from ragkit.reader.likelihood import Given
from ragkit.text.templates import QUERY_FIELDS, Template
from ragkit.types import Passage

log = logging.getLogger(__name__)
_CONTENT = "RAGKIT-CONTENT"  # where a chat template puts what the user says
_MIN_PASSAGE = 16  # tokens: a passage of which less would be left is not worth its place
Context = Literal["prefill", "parallel"]


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The pieces of a prompt, in their order: ``instruction``, every ``passage``, ``question``, ``cue``.

    ``chat`` None wraps all but the cue in the model's chat template where it has one, as one message of the user
    after one of the ``system`` (None: the template's own, if any). What follows ``{text}`` in ``passage`` stays when
    a passage is cut. Markers such as ``<|im_end|>`` count as such in instruction and cue only, never in what passages
    and questions say.
    """

    instruction: str = "Answer the question with a short phrase from the passages.\n\n"
    passage: str = "Title: {title}\nText: {text}\n\n"
    question: str = "Question: {text}\n"
    cue: str = "Answer:"
    system: str | None = None
    chat: bool | None = None


@dataclass(frozen=True, slots=True)
class CausalOptions:
    """The prompt of a causal reader and its limits, in tokens; what is over a limit is cut at its end.

    ``max_prompt`` bounds the whole prompt: passages are taken best first until they fill it. ``stop``: texts that end
    an answer, as the end token does. ``closed_book``: without passages, answer from the question alone instead of
    giving the empty prediction. ``context``: "prefill" reads the prompt as one text; "parallel" lets no passage see
    another, so that each is computed once and kept (:mod:`ragkit.reader.parallel_context`).
    """

    template: PromptTemplate = field(default_factory=PromptTemplate)
    stop: Sequence[str] = ("\n",)
    max_prompt: int = 2048
    max_question: int = 64
    max_passage: int = 256
    closed_book: bool = True
    context: Context = "prefill"

    def __post_init__(self) -> None:
        if isinstance(self.stop, str) or not all(self.stop):
            raise ConfigError(f"stop must be a list of texts that are not empty, not {self.stop!r}")
        object.__setattr__(self, "stop", tuple(self.stop))  # a list from YAML or JSON
        if min(self.max_prompt, self.max_question) < 1 or self.max_passage < _MIN_PASSAGE:
            raise ConfigError(
                f"max_prompt {self.max_prompt} and max_question {self.max_question} must be at least 1, "
                f"max_passage {self.max_passage} at least {_MIN_PASSAGE}"
            )
        if self.context not in ("prefill", "parallel"):
            raise ConfigError(f"unknown context {self.context!r}; choose from ['parallel', 'prefill']")


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids of a prompt: ``head``, the packed ``passages`` (the first of those given), ``tail`` (question, cue)."""

    head: tuple[int, ...]
    passages: tuple[tuple[int, ...], ...]
    tail: tuple[int, ...]

    @property
    def ids(self) -> list[int]:
        """All of it."""
        return [*self.head, *(token for passage in self.passages for token in passage), *self.tail]

    def __len__(self) -> int:
        """Its tokens."""
        return len(self.head) + sum(map(len, self.passages)) + len(self.tail)


class PromptEncoder:
    """Questions, passages and answers to tokens, for one tokenizer (a fast one, with an end token) and one prompt.

    Raises ConfigError where tokenizer and options do not go together.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, options: CausalOptions) -> None:
        if not tokenizer.is_fast:
            raise ConfigError(f"a causal reader needs a fast tokenizer; {type(tokenizer).__name__} is none")
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no end token, so no answer would end; "
                "set eos_token in its tokenizer_config.json"
            )
        self.tokenizer, self.options = tokenizer, options
        self.end = int(tokenizer.eos_token_id)
        template = options.template
        before, after, pattern = _text_last(template.passage)
        self._passage, self._after_text = Template(before + pattern), self._plain([after])[0]
        self._question = Template(template.question, fields=QUERY_FIELDS)
        self._answer_space = "" if not template.cue or template.cue[-1].isspace() else " "
        self.head, self._cue = self._frame()
        fixed = len(self.head) + len(self._cue) + len(self._plain([self._question.render("")])[0])
        room = options.max_prompt - fixed - options.max_question
        if room < _MIN_PASSAGE:
            raise ConfigError(
                f"max_prompt {options.max_prompt} leaves no room for a passage after {fixed} tokens of template and "
                f"max_question {options.max_question}; it must be at least {options.max_prompt - room + _MIN_PASSAGE}"
            )
        self._max_passage = min(options.max_passage, room)

    def _frame(self) -> tuple[tuple[int, ...], list[int]]:
        """The tokens before the first passage and those after the question."""
        template = self.options.template
        has_chat = bool(getattr(self.tokenizer, "chat_template", None))
        if template.chat and not has_chat:
            raise ConfigError(f"chat is true, but {self.tokenizer.name_or_path} has no chat template; leave chat out")
        if template.chat is False or not has_chat:
            head = list(self.tokenizer(template.instruction)["input_ids"])  # with what the model wants at a beginning
            if len(head) > 1 and head[-1] == self.end:
                head.pop()
            return tuple(head), self._marked(template.cue)
        before, after = self._chat()
        return tuple(self._marked(before + template.instruction)), self._marked(after + template.cue)

    def _chat(self) -> tuple[str, str]:
        """The chat template's text before and after what the user says."""
        system = self.options.template.system
        messages = [] if system is None else [{"role": "system", "content": system}]
        messages.append({"role": "user", "content": _CONTENT})
        try:
            text: Any = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise ConfigError(
                f"the chat template refuses these messages ({error}); try system=null or chat=false"
            ) from error
        before, found, after = text.partition(_CONTENT)
        if not found or _CONTENT in after:
            raise ConfigError("the chat template does not hold the user's message exactly once; set chat=false")
        return before, after

    def questions(self, questions: Sequence[str]) -> tuple[list[list[int]], int]:
        """The tokens of every question in its template, cut at the question's own end; and how many were cut."""
        if not questions:
            return [], 0
        limit = self.options.max_question
        texts = [clean_text(question) for question in questions]
        found = self._tokens(texts, limit=limit + 1, return_offsets_mapping=True)
        is_long = [len(ids) > limit for ids in found["input_ids"]]
        short = [
            text[: offsets[limit - 1][1]] if cut else text
            for text, offsets, cut in zip(texts, found["offset_mapping"], is_long, strict=True)
        ]
        return self._plain([self._question.render(text) for text in short]), sum(is_long)

    def passages(self, passages: Sequence[Passage]) -> list[tuple[int, ...]]:
        """The tokens of every passage in its template, cut at the end of its text."""
        if not passages:
            return []
        limit = self._max_passage - len(self._after_text)
        texts = [clean_text(self._passage.render_passage(passage)) for passage in passages]
        return [(*ids, *self._after_text) for ids in self._tokens(texts, limit=limit)["input_ids"]]

    def answers(self, answers: Sequence[str]) -> list[list[int]]:
        """The tokens of every answer and the end token; InputError for an answer that has none."""
        if not answers:
            return []
        texts = [clean_text(answer).strip() for answer in answers]
        found = self._plain([self._answer_space + text if text else "" for text in texts])
        empty = [answer for answer, ids in zip(answers, found, strict=True) if not ids]
        if empty:
            raise InputError(f"an answer has no tokens: {empty[0]!r}; every answer must have some text")
        return [[*ids, self.end] for ids in found]

    def pack(self, question: Sequence[int], passages: Sequence[tuple[int, ...]]) -> Prompt:
        """The prompt of as many passages as fit, the best (first) ones kept.

        The first that does not fit is cut to what room there is, if enough of it stays. Not so where passages are
        computed apart and kept: there it is left out.
        """
        room = self.options.max_prompt - len(self.head) - len(question) - len(self._cue)
        kept: list[tuple[int, ...]] = []
        for ids in passages:
            if len(ids) > room:
                if self.options.context == "prefill" and room >= _MIN_PASSAGE:
                    kept.append((*ids[: room - len(self._after_text)], *self._after_text))
                break
            kept.append(ids)
            room -= len(ids)
        return Prompt(self.head, tuple(kept), (*question, *self._cue))

    def _tokens(self, texts: Sequence[str], *, limit: int | None = None, **more: bool) -> Any:
        return self.tokenizer(
            list(texts),
            add_special_tokens=False,
            split_special_tokens=True,  # "<|im_end|>" written in a passage is text, never a marker
            truncation=limit is not None,
            max_length=limit,
            return_attention_mask=False,
            return_token_type_ids=False,
            **more,
        )

    def _plain(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(ids) for ids in self._tokens(texts)["input_ids"]]

    def _marked(self, text: str) -> list[int]:
        """Tokens of text in which markers such as ``<|im_end|>`` are markers."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def passage_sets(passages: Sequence[Any], given: Given) -> list[Sequence[Any]]:
    """The sets of a question's passages that an answer is scored with: all, each alone, or all but each.

    >>> passage_sets("abc", "alone"), passage_sets("abc", "leave_one_out")
    ([['a'], ['b'], ['c']], [['b', 'c'], ['a', 'c'], ['a', 'b']])
    """
    if given == "joint":
        return [passages]
    if given == "alone":
        return [[passage] for passage in passages]
    return [[*passages[:row], *passages[row + 1 :]] for row in range(len(passages))]


def check_counts(questions: Sequence[str], passages: Sequence[Sequence[Any]], answers: Sequence[str]) -> None:
    """Raise InputError unless each question has its list of passages and its answer."""
    if isinstance(questions, str) or not len(questions) == len(passages) == len(answers):
        raise InputError(
            f"{len(questions)} questions, {len(passages)} lists of passages, {len(answers)} answers; "
            "give each question its list of passages and its answer"
        )


def _text_last(pattern: str) -> tuple[str, str, str]:
    """A passage's pattern in three: before ``{text}``, after it (a literal), and ``{text}`` itself."""
    before, found, after = pattern.rpartition("{text}")
    Template(pattern)  # raises for one that cannot be used at all
    if "{title}" in after or not found:
        raise ConfigError(f"template {pattern!r}: the title must stand before {{text}}, which alone is cut")
    return before, after.replace("{{", "{").replace("}}", "}"), found
