"""DPR's extractive reader: which passage answers, and which span of it is the answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from ragkit.device import autocast, resolve_device, resolve_dtype
from ragkit.errors import ConfigError, InputError
from ragkit.reader.inputs import InputEncoder, InputOptions
from ragkit.reader.likelihood import AnswerLikelihood, Given
from ragkit.reader.reading import PassageLogits, Reading, length_batches, read_passage, select
from ragkit.reader.span_likelihood import NEVER, Answers, likelihood, passage_likelihood
from ragkit.reader.weights import ReaderWeights, load_weights, positions, save_weights
from ragkit.types import Passage, Prediction, ScoredPassage

log = logging.getLogger(__name__)
_WINDOW = 2048  # passages sorted by length and held in memory at once
_GROUP = 16  # inputs at once on a CPU: more are slower there


class ReaderScores(NamedTuple):
    """Logits, -inf at padding and at missing passages."""

    start: Float[Tensor, "query passage token"]
    end: Float[Tensor, "query passage token"]
    selection: Float[Tensor, "query passage"]


class ExtractiveReader(nn.Module):
    """An encoder over each question with each passage, and three linear heads: start, end, passage selection.

    ``batch_tokens`` is the number of tokens, padding included, that go through the encoder at once when answering:
    it alone sets the memory, however many passages a question has. ``dtype`` is that of the autocast when answering
    (:func:`ragkit.device.resolve_dtype`); weights stay float32.
    """

    takes_all_answers: ClassVar[bool] = True  # of a question, where a generative reader scores one

    def __init__(
        self, weights: ReaderWeights, *, batch_tokens: int = 8192, device: str = "auto", dtype: str = "auto"
    ) -> None:
        super().__init__()
        _check_length(weights)
        self.model, self.selection = weights.model, weights.selection
        self.tokenizer, self.max_answer_tokens = weights.tokenizer, weights.max_answer_tokens
        self.is_trained, self.reference = weights.is_trained, weights.reference
        self.inputs = InputEncoder(weights.tokenizer, weights.options)
        self.batch_tokens, self.dtype = batch_tokens, dtype
        self._dtypes: dict[torch.device, torch.dtype] = {}
        self.to(resolve_device(device))
        self.eval()

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        options: InputOptions | None = None,
        batch_tokens: int = 8192,
        device: str = "auto",
        dtype: str = "auto",
    ) -> ExtractiveReader:
        """The reader at a model reference (folder, hub id, ``pkg://``), with ``options`` in place of its own limits.

        Heads that the model lacks are fresh and equal in every process (:func:`ragkit.reader.weights.load_weights`).
        """
        weights = load_weights(model)
        if options is not None:
            weights = replace(weights, options=options)
        return cls(weights, batch_tokens=batch_tokens, device=device, dtype=dtype)

    def save_pretrained(self, folder: Path) -> None:
        """Write weights, tokenizer and settings; ``AutoModelForQuestionAnswering`` opens the folder too."""
        weights = ReaderWeights(
            self.model, self.selection, self.tokenizer, self.inputs.options, self.max_answer_tokens, is_trained=True
        )
        save_weights(weights, Path(folder))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.selection.weight.device

    def forward(
        self,
        ids: Int64[Tensor, "query passage token"],
        mask: Bool[Tensor, "query passage token"],
        segments: Int64[Tensor, "query passage token"],
    ) -> ReaderScores:
        """Logits of every token and every passage, float32, with gradient; only passages that are there are encoded."""
        is_there = mask.any(dim=-1)
        rows = (ids[is_there], mask[is_there], segments[is_there])  # [row, token] each
        start, end, selection = self._encode_rows(*rows) if self.device.type != "cpu" else self._encode_groups(*rows)
        return ReaderScores(
            _scatter(start, is_there), _scatter(end, is_there), _scatter(selection[:, None], is_there).squeeze(-1)
        )

    def _encode_rows(
        self, ids: Int64[Tensor, "row token"], mask: Bool[Tensor, "row token"], segments: Int64[Tensor, "row token"]
    ) -> tuple[Float[Tensor, "row token"], Float[Tensor, "row token"], Float[Tensor, " row"]]:
        """Start and end logits (-inf at padding) and selection logits of single inputs."""
        extra = {"token_type_ids": segments} if getattr(self.model.config, "type_vocab_size", 0) > 1 else {}
        encoder = self.model.base_model
        states = encoder(input_ids=ids, attention_mask=mask.long(), **extra).last_hidden_state  # [row, token, dim]
        start, end = (
            cast(nn.Linear, self.model.qa_outputs)(states).float().masked_fill(~mask[..., None], -torch.inf).unbind(-1)
        )
        return start, end, self.selection(states[:, 0]).float().squeeze(-1)

    def _encode_groups(
        self, ids: Int64[Tensor, "row token"], mask: Bool[Tensor, "row token"], segments: Int64[Tensor, "row token"]
    ) -> tuple[Float[Tensor, "row token"], Float[Tensor, "row token"], Float[Tensor, " row"]]:
        """The same in groups of like length, each without the padding that it does not need: faster on a CPU."""
        lengths = mask.sum(dim=-1)
        order = lengths.argsort(descending=True, stable=True)
        parts = []
        for group in torch.split(order, _GROUP):
            n = int(lengths[group[0]])
            start, end, selection = self._encode_rows(ids[group, :n], mask[group, :n], segments[group, :n])
            space = (0, ids.shape[1] - n)
            parts.append((F.pad(start, space, value=-torch.inf), F.pad(end, space, value=-torch.inf), selection))
        back = order.argsort()
        start, end, selection = (torch.cat(part)[back] for part in zip(*parts, strict=True))
        return start, end, selection

    def answer(self, questions: Sequence[str], passages: Sequence[Sequence[ScoredPassage]]) -> list[Prediction]:
        """The best span of the most relevant passage of each question, cut from that passage's text.

        A better span of another passage does not count (DPR). ``score`` is the natural log of P(passage) P(start)
        P(end): at most 0. ``contribution`` is P(passage), the softmax of relevance over the passages that have text.
        No passage, or none with text: the empty prediction.
        """
        readings = self.read(questions, [[hit.passage for hit in hits] for hits in passages])
        return [select(found, hits) for found, hits in zip(readings, passages, strict=True)]

    def read(
        self, questions: Sequence[str], passages: Sequence[Sequence[Passage]], *, limit: int = 1
    ) -> list[list[Reading]]:
        """What is found in every passage of every question: its relevance and its ``limit`` best answers."""
        if not questions and not passages:
            return []
        if len(questions) != len(passages):
            raise InputError(
                f"{len(questions)} questions with {len(passages)} lists of passages; give each question its list"
            )
        encoded = self.inputs.questions(questions)
        if encoded.n_cut:
            log.warning(
                "%d of %d questions have more than %d tokens and were cut at their end",
                encoded.n_cut,
                len(questions),
                self.inputs.options.max_question,
            )
        pairs = [(encoded.ids[query], passage) for query, line in enumerate(passages) for passage in line]
        was_training = self.training
        self.eval()
        try:
            windows = [pairs[begin : begin + _WINDOW] for begin in range(0, len(pairs), _WINDOW)]
            found = iter([reading for window in windows for reading in self._read_window(window, limit=limit)])
        finally:
            self.train(was_training)
        return [[next(found) for _ in line] for line in passages]

    @torch.no_grad()
    def log_likelihood(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        answers: Answers,
        *,
        given: Given = "joint",
    ) -> AnswerLikelihood:
        """The likelihood of the places where the answer stands (:func:`ragkit.reader.span_likelihood.likelihood`).

        One answer a question, or several of which any counts. InputError for an answer without letters.
        """
        was_training = self.training
        self.eval()
        try:
            with autocast(self.device, self.autocast_dtype):
                found = passage_likelihood(self, questions, passages, answers, with_relevance=given != "alone")
        finally:
            self.train(was_training)
        return likelihood(found, given=given)

    def answer_nll(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        answers: Answers,
        *,
        label_smoothing: float = 0.0,
    ) -> Float[Tensor, ""]:
        """Minus the joint log-likelihood, with gradient in the current mode: the mean over questions.

        It needs no gold passage: any passage with the answer may carry it. A question whose answer stands in none of
        its passages adds a large constant. ``label_smoothing`` must be 0: there are no labels.
        """
        if label_smoothing:
            raise ConfigError(f"an extractive reader has no labels to smooth; label_smoothing is {label_smoothing}")
        found = passage_likelihood(self, questions, passages, answers)
        return -likelihood(found, given="joint", floor=NEVER).sums.mean()

    @property
    def autocast_dtype(self) -> torch.dtype:
        """The format to compute in where the weights are now; resolved, and its reason logged, once a device."""
        if self.device not in self._dtypes:
            self._dtypes[self.device] = resolve_dtype(self.dtype, self.device)
        return self._dtypes[self.device]

    @torch.inference_mode()
    def _read_window(self, pairs: Sequence[tuple[list[int], Passage]], *, limit: int) -> list[Reading]:
        """Readings of pairs of a question's tokens and a passage, in their order; batches hold like lengths."""
        inputs = self.inputs.pairs([question for question, _ in pairs], [passage for _, passage in pairs])
        readings: dict[int, Reading] = {}
        for rows in length_batches([len(one.ids) for one in inputs], budget=self.batch_tokens):
            batch = self.inputs.batch([[inputs[row] for row in rows]]).to(self.device)
            with autocast(self.device, self.autocast_dtype):
                scores = self(batch.ids, batch.mask, batch.segments)
            start, end, selection = (part[0].double().cpu().numpy() for part in scores)  # [row, token] twice, [row]
            for column, row in enumerate(rows):
                n = len(inputs[row].ids)
                logits = PassageLogits(start[column, :n], end[column, :n], float(selection[column]))
                readings[row] = read_passage(
                    inputs[row], pairs[row][1].text, logits=logits, max_tokens=self.max_answer_tokens, limit=limit
                )
        return [readings[row] for row in range(len(pairs))]


def _check_length(weights: ReaderWeights) -> None:
    """Raise ConfigError where the inputs may be longer than the model has positions for."""
    most = positions(weights.model.config, weights.tokenizer)
    if weights.options.max_length > most:
        raise ConfigError(f"max_length {weights.options.max_length} is more than the {most} tokens this model can take")


def _scatter(
    values: Float[Tensor, "row token"], is_there: Bool[Tensor, "query passage"]
) -> Float[Tensor, "query passage token"]:
    """The rows at the places that are there, -inf elsewhere."""
    out = values.new_full((*is_there.shape, *values.shape[1:]), -torch.inf)
    out[is_there] = values
    return out
