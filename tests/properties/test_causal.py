"""Facts of causal readers that hold for any passages: what a prompt keeps, what a passage's company may change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ragkit.reader.causal import CausalReader
from ragkit.reader.causal_weights import CausalWeights
from ragkit.reader.generation import GenerationOptions
from ragkit.reader.packing import CausalOptions, PromptEncoder, PromptTemplate
from ragkit.types import Passage

SHORT = PromptTemplate(instruction="Read.\n", passage="{title}: {text}\n", question="Q: {text}\n", cue="A:")
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40)
PASSAGES = st.lists(st.tuples(TEXTS, TEXTS), max_size=5).map(
    lambda pairs: [Passage(str(row), text, title) for row, (text, title) in enumerate(pairs)]
)
WORDS = st.lists(st.sampled_from(["rome", "Paris", "1603", "é", "by"]), min_size=1, max_size=5).map(" ".join)
LINES = st.lists(WORDS, min_size=2, max_size=4, unique=True)
few = settings(max_examples=20, deadline=None)


def _tokenizer() -> PreTrainedTokenizerFast:
    letters = ["<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    model = Tokenizer(BPE({letter: row for row, letter in enumerate(letters)}, []))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<|end|>", model_max_length=512)


ENCODER = PromptEncoder(_tokenizer(), CausalOptions(template=SHORT, max_prompt=120, max_question=20, max_passage=60))


@given(question=TEXTS, passages=PASSAGES)
@settings(deadline=None)
def test_a_prompt_keeps_head_question_cue_and_the_first_passages_within_its_budget(
    question: str, passages: list[Passage]
):
    (ids,), n_cut = ENCODER.questions([question])
    given_ids = ENCODER.passages(passages)
    prompt = ENCODER.pack(ids, given_ids)
    assert len(prompt) == len(prompt.ids) <= 120
    assert n_cut == (len(question.encode()) > 20)
    assert ENCODER.end not in [*prompt.ids]
    tail = ENCODER.tokenizer.decode(prompt.tail)
    assert tail.startswith("Q: ")
    assert tail.endswith("\nA:")
    kept = prompt.passages
    assert kept[:-1] == tuple(given_ids[: len(kept)])[:-1]
    for one in kept:
        assert ENCODER.tokenizer.decode(one).endswith("\n")
    if len(kept) < len(given_ids):  # the next one found too little room
        assert 120 - len(prompt) < 16 or kept[-1] != given_ids[len(kept) - 1]


@pytest.fixture(scope="module")
def readers() -> dict[str, CausalReader]:
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = LlamaForCausalLM(config)
    options = CausalOptions(template=SHORT, max_prompt=300, max_question=20, max_passage=60)
    return {
        context: CausalReader(
            CausalWeights(model, tokenizer, replace(options, context=context), GenerationOptions()), device="cpu"
        )
        for context in ("prefill", "parallel")
    }


def _likelihoods(reader: CausalReader, texts: list[str], given: str = "joint") -> torch.Tensor:
    line = [Passage(str(row), text) for row, text in enumerate(texts)]
    return reader.log_likelihood(["who"], [line], ["rome"], given=given).sums[0]  # type: ignore[arg-type]


@few
@given(texts=LINES)
def test_a_passage_alone_does_not_depend_on_the_others(readers: dict[str, CausalReader], texts: list[str]):
    """Nor on the way it is read; the control: together, they do."""
    alone = _likelihoods(readers["prefill"], texts, "alone")
    torch.testing.assert_close(_likelihoods(readers["prefill"], texts[::-1], "alone").flip(0), alone, atol=1e-4, rtol=0)
    torch.testing.assert_close(_likelihoods(readers["parallel"], texts, "alone"), alone, atol=1e-4, rtol=0)
    together = [_likelihoods(reader, texts) for reader in readers.values()]
    assert (together[0] - together[1]).abs() > 1e-5


@few
@given(texts=LINES)
def test_leaving_out_the_last_passage_is_what_was_there_before_it(readers: dict[str, CausalReader], texts: list[str]):
    for reader in readers.values():
        without = _likelihoods(reader, texts, "leave_one_out")
        torch.testing.assert_close(without[-1:], _likelihoods(reader, texts[:-1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(without[:1], _likelihoods(reader, texts[1:]), atol=1e-4, rtol=0)
        assert (without[:1] - _likelihoods(reader, texts)).abs() > 1e-4  # the control: a passage matters
