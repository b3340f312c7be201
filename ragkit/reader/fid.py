"""Fusion-in-Decoder: every passage encoded alone, all of them read together by the decoder that writes the answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ragkit.device import autocast, resolve_device, resolve_dtype
from ragkit.errors import InputError
from ragkit.reader.contributions import contributions
from ragkit.reader.cross_attention import masses
from ragkit.reader.decoding import AnswerDecoder, Targets, mean_nll
from ragkit.reader.evidence import make_evidence
from ragkit.reader.fusion import Memory, encode_inputs
from ragkit.reader.generation import ChoiceTrie, GenerationOptions
from ragkit.reader.gradient_checkpointing import checkpoint_gradients
from ragkit.reader.likelihood import AnswerLikelihood, Given
from ragkit.reader.passage_sets import empty_likelihood, score_sets
from ragkit.reader.prompts import FusionInputs, FusionOptions, PromptEncoder, warn_of_cuts
from ragkit.reader.protocol import Explain, MassKind
from ragkit.reader.reading import length_batches
from ragkit.reader.seq2seq import (
    Seq2SeqWeights,
    check_lengths,
    decoder_tokens,
    load_seq2seq,
    require_cross_attention,
    save_seq2seq,
    warn_of_other_inputs,
)
from ragkit.reader.surface import as_written, keeps_text
from ragkit.types import Passage, Prediction, ScoredPassage


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
            weights.model,
            decoder_tokens(
                weights.model, weights.tokenizer, before=self.inputs.before, answer_start=self.inputs.answer_start
            ),
        )
        check_lengths(weights, n_start=len(self.decoder.tokens.start))
        # what a checkpoint brought (a summariser's beams, say) would fill in what ours leaves open
        weights.model.generation_config = self.decoder.generation_config(weights.generation)
        self.batch_tokens, self.dtype = batch_tokens, dtype
        self._dtypes: dict[torch.device, torch.dtype] = {}
        self._keeps_text = keeps_text(weights.tokenizer)
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
        if options is not None:
            warn_of_other_inputs(weights, options)
        weights = replace(weights, options=options or weights.options, generation=generation or weights.generation)
        return cls(weights, batch_tokens=batch_tokens, device=device, dtype=dtype)

    def save_pretrained(self, folder: Path) -> None:
        """Write weights, tokenizer and settings; ``AutoModelForSeq2SeqLM`` opens the folder too."""
        config: Any = self.model.config
        kind = "fido" if config.model_type == "fido" else "fid"
        self.model.generation_config = self.decoder.generation_config(self.generation)  # it may have been changed
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
        checkpoint_gradients(self.model)

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
        targets = self._targets(len(questions), answers)
        memory = self.encode(questions, passages)
        return mean_nll(self.decoder.logits(memory, targets), targets, label_smoothing=label_smoothing)

    def log_likelihood(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        answers: Sequence[str],
        *,
        given: Given = "joint",
    ) -> AnswerLikelihood:
        """See :class:`ragkit.reader.protocol.ScoringReader`; a passage is encoded once, whatever is ``given``."""
        targets = self._targets(len(questions), answers)
        found = empty_likelihood([len(line) for line in passages], targets, given=given)
        inputs = self.inputs.encode(questions, passages, with_alone=given == "leave_one_out")
        warn_of_cuts(inputs, limit=self.options.max_question)
        with self.answering():
            for rows, memory in self._memories(inputs, budget=self.batch_tokens):
                part = score_sets(self.decoder, memory, targets.take(rows), given=given, budget=self.batch_tokens)
                found.tokens[rows, : part.shape[1]] = part
        return found

    def attention_mass(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        answers: Sequence[str],
        *,
        kind: MassKind = "value_norm",
    ) -> Float[Tensor, "query passage"]:
        """See :class:`ragkit.reader.protocol.AttendingReader`."""
        targets = self._targets(len(questions), answers)
        inputs = self.inputs.encode(questions, passages)
        warn_of_cuts(inputs, limit=self.options.max_question)
        width = max(len(line) for line in passages)
        with self.answering():
            memories = self._memories(inputs, budget=self.batch_tokens)
            return masses(self.decoder, memories, targets, kind=kind, width=width)

    def answer(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[ScoredPassage]],
        *,
        explain: Explain | None = None,
    ) -> list[Prediction]:
        """What the decoder writes for each question, from all of its passages together.

        ``score`` is the natural log-probability of the answer's tokens and the end token (which is counted even where
        ``max_tokens`` cut the answer). ``explain`` says how the passages' contributions are measured
        (:class:`ragkit.reader.protocol.ExplainingReader`).
        """
        lines = [[hit.passage for hit in hits] for hits in passages]
        inputs = self.inputs.encode(questions, lines, with_alone=explain == "leave_one_out")
        warn_of_cuts(inputs, limit=self.options.max_question)
        is_read = [bool(line) or self.options.closed_book for line in lines]
        read = [row for row, wanted in enumerate(is_read) if wanted]
        predictions = [Prediction("", float("-inf")) for _ in questions]
        trie = self._trie()
        budget = max(1, self.batch_tokens // self.generation.beams)
        with self.answering():
            for rows, memory in self._memories(inputs.take(read), budget=budget):
                places = [read[row] for row in rows.tolist()]
                found = self._predict(memory, [passages[row] for row in places], explain=explain, trie=trie)
                for row, prediction in zip(places, found, strict=True):
                    predictions[row] = prediction
        return predictions

    def encode(
        self, questions: Sequence[str], passages: Sequence[Sequence[Passage]], *, with_alone: bool = False
    ) -> Memory:
        """The decoder's memory of these questions, to be handed to the methods that take one.

        In the current mode and number format, with gradient where that is enabled. ``with_alone`` is for leave-one-out:
        questions with one passage are then encoded alone too.
        """
        return self._encode(self.inputs.encode(questions, passages, with_alone=with_alone))

    def score(self, memory: Memory, answers: Sequence[str], *, given: Given = "joint") -> AnswerLikelihood:
        """As :meth:`log_likelihood`, of passages that are encoded already; all in one batch of questions."""
        targets = self._targets(len(memory.mask), answers)
        found = empty_likelihood(memory.n_passages.tolist(), targets, given=given)
        with self.answering():
            found.tokens.copy_(score_sets(self.decoder, memory, targets, given=given, budget=self.batch_tokens))
        return found

    def attend(
        self, memory: Memory, answers: Sequence[str], *, kind: MassKind = "value_norm"
    ) -> Float[Tensor, "query passage"]:
        """As :meth:`attention_mass`, of passages that are encoded already."""
        targets = self._targets(len(memory.mask), answers)
        width = int(memory.n_passages.max())
        with self.answering():
            memories = memory.jointly().batches(budget=self.batch_tokens)
            return masses(self.decoder, memories, targets, kind=kind, width=width)

    def nll(self, memory: Memory, answers: Sequence[str], *, label_smoothing: float = 0.0) -> Float[Tensor, ""]:
        """As :meth:`answer_nll`, of passages that are encoded already, whose states the gradient reaches."""
        targets = self._targets(len(memory.mask), answers)
        return mean_nll(self.decoder.logits(memory.jointly(), targets), targets, label_smoothing=label_smoothing)

    def write(self, memory: Memory) -> list[str]:
        """The answers from passages that are encoded already."""
        trie = self._trie()
        with self.answering():
            written = self.decoder.generate(memory.jointly(), self.generation, trie=trie)
        return [self._text(ids, (), trie=trie) for ids in written]

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """The block in which it answers and scores: eval mode, no gradient, autocast; the mode is put back after."""
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

    def _encode(self, inputs: FusionInputs) -> Memory:
        return encode_inputs(
            self.model,
            inputs.lines,
            budget=self.batch_tokens,
            pad_id=self.decoder.tokens.pad,
            add_words=self.options.memory == "states_and_words",
        )

    def _memories(self, inputs: FusionInputs, *, budget: int) -> Iterator[tuple[Int64[Tensor, " query"], Memory]]:
        """The memories of some questions after the other, like lengths together, each within the budget of tokens."""
        for rows in length_batches(inputs.lengths, budget=budget):
            yield torch.tensor(rows, device=self.device), self._encode(inputs.take(rows))

    def _predict(
        self,
        memory: Memory,
        passages: Sequence[Sequence[ScoredPassage]],
        *,
        explain: Explain | None,
        trie: ChoiceTrie | None,
    ) -> list[Prediction]:
        joint = memory.jointly()
        written = self.decoder.generate(joint, self.generation, trie=trie)
        targets = self.decoder.targets(written)
        scores = self.decoder.log_probs(joint, targets).sum(dim=-1).tolist()
        shares = contributions(self.decoder, memory, targets, explain=explain, budget=self.batch_tokens)
        return [
            Prediction(self._text(ids, hits, trie=trie), score, make_evidence(hits, share))
            for ids, score, hits, share in zip(written, scores, passages, shares, strict=True)
        ]

    def _text(self, ids: Sequence[int], hits: Sequence[ScoredPassage], *, trie: ChoiceTrie | None) -> str:
        if trie is not None:
            return self.generation.choices[trie.number(ids)]
        text = str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()
        return text if self._keeps_text else as_written(text, [hit.passage.text for hit in hits])

    def _trie(self) -> ChoiceTrie | None:
        if not self.generation.choices:
            return None
        return ChoiceTrie(self.inputs.answers(self.generation.choices), end=self.decoder.tokens.end)

    def _targets(self, n_questions: int, answers: Sequence[str]) -> Targets:
        if n_questions != len(answers) or not answers:
            raise InputError(f"{n_questions} questions with {len(answers)} answers; give each question its answer")
        return self.decoder.targets(self.inputs.answers(answers))
