"""A reader over a decoder-only language model: passages and question in one prompt, the answer written after it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from ragkit.device import resolve_device, resolve_dtype
from ragkit.errors import ConfigError
from ragkit.reader.causal_batch import CausalBatch, Writer, Written, answer_losses, collect_likelihood, make_batch
from ragkit.reader.causal_weights import CausalWeights, check_length, end_tokens, load_causal, model_digest, save_causal
from ragkit.reader.context_cache import ContextCache
from ragkit.reader.evidence import leave_one_out_shares, make_evidence
from ragkit.reader.generation import ChoiceTrie, GenerationOptions
from ragkit.reader.gradient_checkpointing import checkpoint_gradients
from ragkit.reader.likelihood import AnswerLikelihood, Given
from ragkit.reader.lora import LoraOptions, add_lora
from ragkit.reader.packing import CausalOptions, Prompt, PromptEncoder, check_counts, passage_sets
from ragkit.reader.parallel_context import ParallelContext
from ragkit.reader.protocol import Explain
from ragkit.reader.reading import length_batches
from ragkit.types import Passage, Prediction, ScoredPassage

log = logging.getLogger(__name__)


class CausalReader(nn.Module):
    """Any decoder-only model of transformers as a reader (Llama, SmolLM2, Qwen2, GPT-2, ...).

    ``batch_tokens`` is the number of prompt tokens, padding included, that go through the model at once. With
    ``lora`` only adapters are trained. Contexts of ``context=parallel`` are computed anew in every call until
    :meth:`keep_contexts` names a folder for them.
    """

    def __init__(
        self,
        weights: CausalWeights,
        *,
        lora: LoraOptions | None = None,
        batch_tokens: int = 8192,
        device: str = "auto",
    ) -> None:
        super().__init__()
        self.tokenizer, self.reference, self.is_trained = weights.tokenizer, weights.reference, True
        self.options, self.generation, self.lora = weights.options, weights.generation, lora
        self.inputs = PromptEncoder(weights.tokenizer, weights.options)
        check_length(weights)
        if lora is not None:  # a checkpoint of the adapters says what they belong to
            digest = torch.tensor(list(model_digest(weights.model)), dtype=torch.uint8)
            self.register_buffer("base_digest", digest)
        self.model: Any = weights.model if lora is None else add_lora(weights.model, lora)
        self.batch_tokens = batch_tokens
        self.context = (
            ParallelContext(self._base, self.inputs.head, batch_tokens=batch_tokens)
            if weights.options.context == "parallel"
            else None
        )
        self.to(resolve_device(device))
        self.eval()

    @classmethod
    def from_pretrained(  # noqa: PLR0913  a constructor
        cls,
        model: str,
        *,
        options: CausalOptions | None = None,
        generation: GenerationOptions | None = None,
        lora: LoraOptions | None = None,
        cache_dir: str | None = None,
        batch_tokens: int = 8192,
        device: str = "auto",
        dtype: str = "auto",
    ) -> CausalReader:
        """The reader at a model reference (folder, GGUF file, hub id, ``pkg://``), with these options for its own.

        ``dtype`` is that of the weights and of computing with them ("auto": bfloat16 where the hardware has it);
        adapters are float32. To train all weights give "float32". ``cache_dir`` keeps the contexts of
        ``context=parallel``, such as ``INDEX_DIR/kv``.
        """
        weights = load_causal(model, dtype=resolve_dtype(dtype, resolve_device(device)))
        weights = replace(weights, options=options or weights.options, generation=generation or weights.generation)
        reader = cls(weights, lora=lora, batch_tokens=batch_tokens, device=device)
        if cache_dir is not None:
            reader.keep_contexts(Path(cache_dir))
        return reader

    def save_pretrained(self, folder: Path) -> None:
        """Write weights (adapters merged), tokenizer and settings; ``AutoModelForCausalLM`` opens the folder too."""
        weights = CausalWeights(self._base, self.tokenizer, self.options, self.generation)
        save_causal(weights, Path(folder), adapted=None if self.lora is None else self.model)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._base.device

    @property
    def explanations(self) -> tuple[Explain, ...]:
        """The ways in which a passage's contribution can be measured: there is no cross-attention to read."""
        return ("leave_one_out",)

    @property
    def _base(self) -> PreTrainedModel:
        """The model of transformers, any adapters inside it."""
        found: PreTrainedModel = self.model if self.lora is None else self.model.get_base_model()
        return found

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """All weights; with adapters these alone and the digest of their model, whose own weights never change."""
        found: dict[str, Any] = super().state_dict(*args, **kwargs)
        return found if self.lora is None else {name: found[name] for name in found if _is_learned(name)}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take what :meth:`state_dict` gave."""
        if self.lora is None:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        found = super().load_state_dict(state_dict, strict=False, assign=assign)
        missing = [name for name in found.missing_keys if _is_learned(name)]
        if strict and (missing or found.unexpected_keys):
            raise RuntimeError(f"adapters lack {missing[:3]} or do not know {found.unexpected_keys[:3]}")
        return found

    def keep_contexts(self, folder: Path, *, max_bytes: int = 4 * 2**30) -> None:
        """Keep what ``context=parallel`` computes of each passage in ``folder``, for this and later processes.

        Nothing happens with ``context=prefill``, which has nothing to keep, and where a folder was named before.
        """
        if self.context is not None and self.context.cache is None:
            self.context.cache = ContextCache(folder, max_bytes=max_bytes)

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations again in the backward pass: less memory, about a third more time, the same gradients."""
        if self.context is not None:
            raise ConfigError("context=parallel keeps keys and values, which gradient checkpointing drops; use prefill")
        checkpoint_gradients(self._base)

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
        check_counts(questions, passages, answers)
        targets = self.inputs.answers(answers)
        prompts = self._prompts(questions, passages)
        total = torch.zeros((), device=self.device)
        for rows, batch in self._batches(prompts, targets):
            losses = answer_losses(self._base, batch, label_smoothing=label_smoothing)
            lengths = torch.tensor([len(targets[row]) for row in rows], device=self.device)
            total = total + (losses.sum(dim=-1) / lengths).sum()
        return total / len(questions)

    def log_likelihood(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        answers: Sequence[str],
        *,
        given: Given = "joint",
    ) -> AnswerLikelihood:
        """See :class:`ragkit.reader.protocol.ScoringReader`.

        Every set is packed into a prompt of its own, so that leaving out a passage may let in one for which there was
        no room: n passages cost n prompts ``alone`` and n prompts of n - 1 passages ``leave_one_out``. With
        ``context=parallel`` each passage is read once for all sets.
        """
        check_counts(questions, passages, answers)
        targets = self.inputs.answers(answers)
        question_ids = self._question_ids(questions)
        prompts, places = [], []
        for query, line in enumerate(passages):
            ids = self.inputs.passages(line)
            for number, part in enumerate(passage_sets(ids, given)):
                prompts.append(self.inputs.pack(question_ids[query], part))
                places.append((query, number))
        return self._likelihood(prompts, places, targets)

    def answer(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[ScoredPassage]],
        *,
        explain: Explain | None = None,
    ) -> list[Prediction]:
        """What the model writes after each question's prompt, up to an end token or a stop text.

        ``score`` is the natural log-probability of the answer's tokens and of the token that ended it (none did where
        ``max_tokens`` cut it). The evidence is the passages that found room in the prompt; ``explain`` says how
        their contributions are measured (:class:`ragkit.reader.protocol.ExplainingReader`).
        """
        check_counts(questions, passages, questions)
        if explain is not None and explain not in self.explanations:
            raise ConfigError(
                f"a CausalReader cannot explain an answer by {explain!r}; choose from {self.explanations}"
            )
        asked = [row for row, hits in enumerate(passages) if hits or self.options.closed_book]
        prompts = self._prompts(
            [questions[row] for row in asked], [[hit.passage for hit in passages[row]] for row in asked]
        )
        written = self._write(prompts)
        shares = self._shares(prompts, written) if explain else [None] * len(asked)
        found = {
            row: Prediction(one.text, one.log_probability, make_evidence(passages[row][: len(prompt.passages)], share))
            for row, prompt, one, share in zip(asked, prompts, written, shares, strict=True)
        }
        return [found.get(row, Prediction("", float("-inf"))) for row in range(len(questions))]

    def _question_ids(self, questions: Sequence[str]) -> list[list[int]]:
        ids, n_cut = self.inputs.questions(questions)
        if n_cut:
            limit = self.options.max_question
            log.warning(
                "%d of %d questions have more than %d tokens and were cut at their end", n_cut, len(questions), limit
            )
        return ids

    def _prompts(self, questions: Sequence[str], passages: Sequence[Sequence[Passage]]) -> list[Prompt]:
        """One prompt a question, of as many passages as fit."""
        question_ids = self._question_ids(questions)
        ids = [self.inputs.passages(line) for line in passages]
        return [self.inputs.pack(question, line) for question, line in zip(question_ids, ids, strict=True)]

    def _batches(
        self, prompts: Sequence[Prompt], targets: Sequence[Sequence[int]] | None = None
    ) -> Iterator[tuple[list[int], CausalBatch]]:
        """The prompts with their answers in batches of like lengths, each with the rows it holds."""
        answers = targets if targets is not None else [[]] * len(prompts)
        states = self.context.states(prompts) if self.context is not None and prompts else {}
        lengths = [len(prompt) + len(target) for prompt, target in zip(prompts, answers, strict=True)]
        for rows in length_batches(lengths, budget=self.batch_tokens):
            chosen = [prompts[row] for row in rows]
            cached = self.context.join(chosen, states) if self.context is not None else None
            ids = [prompt.ids if self.context is None else list(prompt.tail) for prompt in chosen]
            yield (
                rows,
                make_batch(ids, [answers[row] for row in rows], pad=self.inputs.end, cached=cached, device=self.device),
            )

    def _likelihood(
        self, prompts: Sequence[Prompt], places: Sequence[tuple[int, int]], targets: Sequence[Sequence[int]]
    ) -> AnswerLikelihood:
        """The likelihood of the answer of question ``q`` given prompt ``i``, for every ``places[i] = (q, set)``."""
        with self._answering():
            batches = self._batches(prompts, [targets[query] for query, _ in places])
            scored = ((rows, answer_losses(self._base, batch)) for rows, batch in batches)
            return collect_likelihood(scored, places, targets, device=self.device)

    def _write(self, prompts: Sequence[Prompt]) -> list[Written]:
        choices = self.generation.choices
        trie = ChoiceTrie([ids[:-1] for ids in self.inputs.answers(choices)], end=self.inputs.end) if choices else None
        writer = Writer(
            self.tokenizer, end_tokens(self._base, self.tokenizer), self.generation, self.options.stop, trie
        )
        found: dict[int, Written] = {}
        with self._answering():
            for rows, batch in self._batches(prompts):
                found.update(zip(rows, writer.write(self._base, batch), strict=True))
        return [found[row] for row in range(len(prompts))]

    def _shares(self, prompts: Sequence[Prompt], written: Sequence[Written]) -> list[list[float]]:
        """The share of each packed passage in what the answer loses without it."""
        texts = [one.text for one in written]
        targets = [self.inputs.answers([text])[0] if text else [self.inputs.end] for text in texts]
        sets, places = [], []
        for query, prompt in enumerate(prompts):
            for number, part in enumerate(passage_sets(prompt.passages, "leave_one_out")):
                sets.append(replace(prompt, passages=tuple(part)))
                places.append((query, number))
        shares = leave_one_out_shares(self._likelihood(sets, places, targets).sums)
        return [line[: len(prompt.passages)].tolist() for line, prompt in zip(shares, prompts, strict=True)]

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Eval mode and no gradient inside the block; the mode is as before after it."""
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.train(was_training)


def _is_learned(name: str) -> bool:
    return "lora_" in name or name == "base_digest"
