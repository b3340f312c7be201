"""Fusion-in-Decoder: every passage encoded alone, all of them read together by the decoder that writes the answer."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ragkit.device import autocast, resolve_device, resolve_dtype
from ragkit.errors import ConfigError, InputError
from ragkit.reader.cross_attention import attention_mass
from ragkit.reader.decoding import AnswerDecoder, mean_nll
from ragkit.reader.evidence import leave_one_out_shares, make_evidence, mass_shares
from ragkit.reader.fusion import Memory, encode_inputs
from ragkit.reader.generation import ChoiceTrie, GenerationOptions
from ragkit.reader.likelihood import AnswerLikelihood, Given
from ragkit.reader.passage_sets import score_sets
from ragkit.reader.prompts import FusionInputs, FusionOptions, PromptEncoder
from ragkit.reader.protocol import Explain, MassKind
from ragkit.reader.reading import length_batches
from ragkit.reader.seq2seq import (
    Seq2SeqWeights,
    decoder_positions,
    decoder_tokens,
    encoder_positions,
    load_seq2seq,
    require_cross_attention,
    save_seq2seq,
)
from ragkit.types import Passage, Prediction, ScoredPassage

log = logging.getLogger(__name__)


class FusionReader(nn.Module):
    """FiD over any encoder-decoder of transformers whose encoder states can be handed in (T5, BART, ...).

    ``batch_tokens`` is the number of tokens, padding included, that go through the encoder, or that the decoder
    attends to, at once when answering and scoring: it sets the memory, however many passages a question has (the
    passages of one question are always read together). ``dtype`` is that of the autocast then
    (:func:`ragkit.device.resolve_dtype`); weights stay float32.
    """

    def __init__(
        self, weights: Seq2SeqWeights, *, batch_tokens: int = 8192, device: str = "auto", dtype: str = "auto"
    ) -> None:
        super().__init__()
        require_cross_attention(weights.model)
        self.model, self.tokenizer = weights.model, weights.tokenizer
        self.is_trained, self.reference = weights.is_trained, weights.reference
        self.options, self.generation = weights.options, weights.generation
        self.inputs = PromptEncoder(weights.tokenizer, weights.options)
        self.decoder = AnswerDecoder(
            weights.model, decoder_tokens(weights.model, weights.tokenizer, before=self.inputs.before)
        )
        _check_lengths(weights, n_start=len(self.decoder.tokens.start))
        self.batch_tokens, self.dtype = batch_tokens, dtype
        self._dtypes: dict[torch.device, torch.dtype] = {}
        self.to(resolve_device(device))
        self.eval()

    @classmethod
    def from_pretrained(  # noqa: PLR0913  what it reads, how it writes, where it runs
        cls,
        model: str,
        *,
        options: FusionOptions | None = None,
        generation: GenerationOptions | None = None,
        batch_tokens: int = 8192,
        device: str = "auto",
        dtype: str = "auto",
    ) -> FusionReader:
        """The reader at a model reference (folder, hub id, ``pkg://``), with these options in place of its own.

        Takes what ragkit saved and any encoder-decoder of transformers (:func:`ragkit.reader.seq2seq.load_seq2seq`).
        """
        weights = load_seq2seq(model)
        weights = replace(weights, options=options or weights.options, generation=generation or weights.generation)
        return cls(weights, batch_tokens=batch_tokens, device=device, dtype=dtype)

    def save_pretrained(self, folder: Path) -> None:
        """Write weights, tokenizer and settings; ``AutoModelForSeq2SeqLM`` opens the folder too."""
        config: Any = self.model.config
        kind = "fido" if config.model_type == "fido" else "fid"
        save_seq2seq(Seq2SeqWeights(self.model, self.tokenizer, self.options, self.generation), Path(folder), kind=kind)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def explanations(self) -> tuple[Explain, ...]:
        """The ways in which a passage's contribution can be measured."""
        return ("leave_one_out", "attention")

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations again in the backward pass: less memory, about a third more time, the same gradients."""
        model: Any = self.model
        model.gradient_checkpointing_enable()

    def encode(self, questions: Sequence[str], passages: Sequence[Sequence[Passage]]) -> Memory:
        """The decoder's memory of these questions, in the current mode and with gradient where that is enabled.

        What it gives can be handed to every method that takes a memory, in place of encoding the passages again.
        """
        return self._encode(self.inputs.encode(questions, passages))

    def answer_nll(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        answers: Sequence[str],
        *,
        label_smoothing: float = 0.0,
    ) -> Float[Tensor, ""]:
        """The loss of training: mean over questions of the mean negative log-likelihood of the answer's tokens.

        The end token counts as one. With gradient, in the current mode; the caller sets the autocast.
        """
        answer_ids = self._answer_ids(questions, answers)
        memory = self.encode(questions, passages)
        targets = self.decoder.targets(answer_ids)
        return mean_nll(self.decoder.logits(memory, targets), targets, label_smoothing=label_smoothing)

    def log_likelihood(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        answers: Sequence[str],
        *,
        given: Given = "joint",
    ) -> AnswerLikelihood:
        """See :class:`ragkit.reader.protocol.ScoringReader`; the passages are encoded once, whatever is ``given``."""
        answer_ids = self._answer_ids(questions, answers)
        inputs = self.inputs.encode(questions, passages, with_alone=_with_alone(passages, given))
        self._warn(inputs)
        targets = self.decoder.targets(answer_ids)
        counts = [1 if given == "joint" else len(line) for line in passages]
        set_mask = torch.arange(max(counts, default=0)) < torch.tensor(counts)[:, None]
        likelihood = AnswerLikelihood(
            targets.ids.new_zeros(*set_mask.shape, targets.ids.shape[1], dtype=torch.float32),
            targets.mask,
            set_mask.to(self.device),
        )
        with self._answering():
            for rows in self._batches(inputs):
                memory = self._encode(FusionInputs([inputs.lines[row] for row in rows], 0))
                places = torch.tensor(rows, device=self.device)
                part = score_sets(self.decoder, memory, targets.take(places), given=given, budget=self.batch_tokens)
                likelihood.tokens[places, : part.shape[1]] = part
        return likelihood

    def attention_mass(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        answers: Sequence[str],
        *,
        kind: MassKind = "value_norm",
    ) -> Float[Tensor, "query passage"]:
        """See :class:`ragkit.reader.protocol.AttendingReader`."""
        answer_ids = self._answer_ids(questions, answers)
        inputs = self.inputs.encode(questions, passages)
        self._warn(inputs)
        targets = self.decoder.targets(answer_ids)
        width = max((len(line) for line in passages), default=0)
        mass = torch.full((len(questions), width), -torch.inf, device=self.device)
        with self._answering():
            for rows in self._batches(inputs):
                memory = self._encode(FusionInputs([inputs.lines[row] for row in rows], 0))
                places = torch.tensor(rows, device=self.device)
                part = attention_mass(self.decoder, memory, targets.take(places), kind=kind)
                mass[places, : part.shape[1]] = part
        return mass

    def answer(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[ScoredPassage]],
        *,
        explain: Explain | None = None,
    ) -> list[Prediction]:
        """What the decoder writes for each question, from all of its passages together.

        ``score`` is the natural log-probability of the answer's tokens and the end token. ``explain`` says how the
        passages' contributions are measured (:class:`ragkit.reader.protocol.ExplainingReader`).
        """
        lines = [[hit.passage for hit in hits] for hits in passages]
        inputs = self.inputs.encode(questions, lines, with_alone=_with_alone(passages, explain))
        self._warn(inputs)
        predictions = [Prediction("", float("-inf")) for _ in questions]
        trie = self._trie()
        with self._answering():
            for batch in self._batches(inputs):
                rows = [row for row in batch if passages[row] or self.options.closed_book]
                if rows:
                    memory = self._encode(FusionInputs([inputs.lines[row] for row in rows], 0))
                    found = self._predict(memory, [passages[row] for row in rows], explain=explain, trie=trie)
                    for row, prediction in zip(rows, found, strict=True):
                        predictions[row] = prediction
        return predictions

    def _encode(self, inputs: FusionInputs) -> Memory:
        return encode_inputs(
            self.model,
            inputs.lines,
            budget=self.batch_tokens,
            pad_id=self.decoder.tokens.pad,
            add_words=self.options.memory == "states_and_words",
        )

    def _predict(
        self,
        memory: Memory,
        passages: Sequence[Sequence[ScoredPassage]],
        *,
        explain: Explain | None,
        trie: ChoiceTrie | None,
    ) -> list[Prediction]:
        rows = torch.arange(len(passages), device=self.device)
        joint = memory.take(rows, keep=memory.joint())
        written = self.decoder.generate(joint, self.generation, trie=trie)
        targets = self.decoder.targets(written)
        scoring = partial(score_sets, self.decoder, budget=self.batch_tokens)
        scores = scoring(joint, targets, given="joint").sum(dim=(-1, -2)).tolist()
        shares: list[Sequence[float] | None] = [None] * len(passages)
        if explain == "leave_one_out":
            without = scoring(memory, targets, given="leave_one_out").sum(dim=-1)
            is_there = torch.arange(without.shape[1], device=self.device) < memory.n_passages[:, None]
            shares = list(leave_one_out_shares(without.masked_fill(~is_there, -torch.inf)).tolist())
        elif explain == "attention":
            mass = attention_mass(self.decoder, joint, targets, kind="value_norm")
            shares = list(mass_shares(mass).tolist())
        return [
            Prediction(self._text(ids), score, make_evidence(hits, share))
            for ids, score, hits, share in zip(written, scores, passages, shares, strict=True)
        ]

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _trie(self) -> ChoiceTrie | None:
        if not self.generation.choices:
            return None
        return ChoiceTrie(self.inputs.answers(self.generation.choices), end=self.decoder.tokens.end)

    def _batches(self, inputs: FusionInputs) -> Iterator[list[int]]:
        """Questions whose memories together keep to the budget, beams included."""
        return length_batches(inputs.lengths, budget=max(1, self.batch_tokens // self.generation.beams))

    def _answer_ids(self, questions: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
        if len(questions) != len(answers):
            raise InputError(f"{len(questions)} questions with {len(answers)} answers; give each question its answer")
        if not questions:
            raise InputError("there are no questions; give one at least")
        return self.inputs.answers(answers)

    def _warn(self, inputs: FusionInputs) -> None:
        if inputs.n_cut:
            log.warning(
                "%d of %d questions have more than %d tokens and were cut at their end",
                inputs.n_cut,
                len(inputs.lines),
                self.options.max_question,
            )

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Eval mode, no gradient, autocast; the mode is put back after."""
        if self.device not in self._dtypes:
            self._dtypes[self.device] = resolve_dtype(self.dtype, self.device)
        was_training = self.training
        self.eval()
        try:
            # not inference mode: feedback computed here takes part in the graph of a retriever's loss
            with torch.no_grad(), autocast(self.device, self._dtypes[self.device]):
                yield
        finally:
            self.train(was_training)


def _with_alone(passages: Sequence[Sequence[Any]], given: str | None) -> list[bool]:
    """Whether each question is needed alone too: leaving out its only passage leaves that."""
    return [given == "leave_one_out" and len(line) == 1 for line in passages]


def _check_lengths(weights: Seq2SeqWeights, *, n_start: int) -> None:
    """Raise ConfigError where inputs or answers may be longer than the model has positions for."""
    most = encoder_positions(weights.model)
    if weights.options.max_length > most:
        raise ConfigError(f"max_length {weights.options.max_length} is more than the {most} tokens this encoder takes")
    room = decoder_positions(weights.model) - n_start
    if weights.generation.max_tokens > room:
        raise ConfigError(f"max_tokens {weights.generation.max_tokens} is more than the {room} this decoder can write")
