"""A causal reader scores and writes what the plain model does, whatever the batches, for every family."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, BertConfig, BertLMHeadModel, T5Config, T5ForConditionalGeneration

from ragkit.errors import ConfigError, InputError, ModelNotFound
from ragkit.reader.causal import CausalReader
from ragkit.reader.generation import GenerationOptions
from ragkit.reader.open import open_reader
from ragkit.reader.packing import CausalOptions, PromptTemplate
from ragkit.reader.protocol import ExplainingReader, ScoringReader
from ragkit.types import Passage

from .causal_models import (
    ANSWERS,
    FAMILIES,
    PASSAGES,
    QUESTIONS,
    SMALL,
    byte_tokenizer,
    hits,
    load,
    make_model,
    prompt_of,
    save_model,
)

LINES = [PASSAGES, PASSAGES[:1], PASSAGES[:0:-1]]  # 3, 1 and 2 passages


@pytest.fixture(scope="session", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("llama"))


def plain_log_probs(folder: Path, prompt: list[int], target: list[int]) -> torch.Tensor:
    """What transformers' model says of each target token, one text, no batch, no padding."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *target]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1)[torch.arange(len(target)), target]


def test_a_causal_reader_scores_and_explains(llama: Path):
    reader = load(llama)
    assert isinstance(reader, ScoringReader)
    assert isinstance(reader, ExplainingReader)


def test_the_likelihood_is_the_plain_models(folder: Path):
    """Guards against padding that is seen, positions that count it, and answers scored one token off."""
    reader = load(folder)
    found = reader.log_likelihood(QUESTIONS, LINES, ANSWERS)
    targets = reader.inputs.answers(ANSWERS)
    for row in range(3):
        wanted = plain_log_probs(folder, prompt_of(reader, QUESTIONS[row], LINES[row]).ids, targets[row])
        torch.testing.assert_close(found.tokens[row, 0, : len(wanted)], wanted, atol=1e-5, rtol=1e-5)
        assert found.token_mask[row].sum() == len(wanted)
        assert not found.tokens[row, 0, len(wanted) :].any()
    assert found.sums.shape == (3, 1)


def test_alone_and_leave_one_out_are_the_joint_likelihoods_of_those_sets(folder: Path):
    reader = load(folder)
    alone = reader.log_likelihood(QUESTIONS, LINES, ANSWERS, given="alone").sums
    without = reader.log_likelihood(QUESTIONS, LINES, ANSWERS, given="leave_one_out").sums
    joint = reader.log_likelihood(QUESTIONS, LINES, ANSWERS).sums
    for row, line in enumerate(LINES):
        for column, passage in enumerate(line):
            others = [one for one in line if one != passage]
            for found, passages in ((alone, [passage]), (without, others)):
                wanted = reader.log_likelihood([QUESTIONS[row]], [passages], [ANSWERS[row]]).sums[0, 0]
                torch.testing.assert_close(found[row, column], wanted, atol=1e-5, rtol=1e-5)
        assert torch.isinf(alone[row, len(line) :]).all()
    assert (without[0] - joint[0]).abs().min() > 1e-2  # the control: a passage matters


def test_batches_do_not_change_what_is_found(folder: Path):
    whole, single = load(folder), load(folder, batch_tokens=1)
    for given in ("joint", "alone", "leave_one_out"):
        found = [reader.log_likelihood(QUESTIONS, LINES, ANSWERS, given=given).tokens for reader in (whole, single)]
        torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)
    asked = [hits(line) for line in LINES]
    texts = [[one.text for one in reader.answer(QUESTIONS, asked)] for reader in (whole, single)]
    assert texts[0] == texts[1]


def test_a_greedy_answer_is_the_plain_models_and_its_score_the_likelihood(folder: Path):
    """Guards against left-over sampling settings, and against scores of tokens after the end."""
    reader = load(folder, generation=GenerationOptions(max_tokens=6), options=replace(SMALL, stop=()))
    predictions = reader.answer(QUESTIONS, [hits(line) for line in LINES])
    for question, line, prediction in zip(QUESTIONS, LINES, predictions, strict=True):
        ids = prompt_of(reader, question, line).ids
        written: list[int] = []
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        with torch.no_grad():
            while len(written) < 6 and (not written or written[-1] != 0):
                logits = model(torch.tensor([[*ids, *written]])).logits[0, -1]
                if not written:
                    logits[0] = -torch.inf  # one token at least
                written.append(int(logits.argmax()))
        kept = [token for token in written if token]
        assert prediction.text == reader.tokenizer.decode(kept).strip()
        assert prediction.score == pytest.approx(float(plain_log_probs(folder, ids, written).sum()), abs=1e-4)
        assert prediction.score <= 0


def teach(reader: CausalReader, steps: int = 120, rate: float = 1e-2) -> list[float]:
    """Answers learned by heart; the loss of every step."""
    optimizer = torch.optim.AdamW([p for p in reader.parameters() if p.requires_grad], lr=rate)
    losses = []
    for _ in range(steps):
        loss = reader.answer_nll(QUESTIONS, LINES, ANSWERS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.fixture(scope="session")
def taught(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    reader, folder = load(llama), tmp_path_factory.mktemp("taught")
    losses = teach(reader, 60)
    assert losses[-1] < 0.05 < losses[0]
    reader.save_pretrained(folder)
    return folder


def test_what_it_was_taught_it_answers_and_ends(taught: Path):
    """Guards against answers that never learn to end, or are learned in another place than they are written."""
    reader = load(taught)
    predictions = reader.answer(QUESTIONS, [hits(line) for line in LINES])
    assert [one.text for one in predictions] == ANSWERS
    likelihood = reader.log_likelihood(QUESTIONS, LINES, ANSWERS).sums[:, 0]
    assert [one.score for one in predictions] == pytest.approx(likelihood.tolist(), abs=1e-4)


def test_a_stop_text_ends_an_answer_and_is_not_part_of_it(taught: Path):
    reader = load(taught, options=replace(SMALL, stop=["ak", "aly"]))
    assert [one.text for one in reader.answer(QUESTIONS, [hits(line) for line in LINES])] == ["sh", "it", "in 1603"]


def test_max_tokens_cut_an_answer_whose_end_is_not_counted(taught: Path):
    reader = load(taught, generation=GenerationOptions(max_tokens=6))
    found = reader.answer(QUESTIONS[:1], [hits(LINES[0])])[0]
    assert found.text == "shake"  # a space and five letters
    tokens = reader.log_likelihood(QUESTIONS[:1], LINES[:1], ANSWERS[:1]).tokens[0, 0]
    assert found.score == pytest.approx(float(tokens[:6].sum()), abs=1e-4)


def test_beams_find_an_answer_at_least_as_likely(llama: Path):
    scores = []
    for beams in (1, 4):
        options = GenerationOptions(beams=beams, max_tokens=4, length_penalty=0.0)
        reader = load(llama, generation=options, options=replace(SMALL, stop=()))
        scores.append([one.score for one in reader.answer(QUESTIONS, [hits(line) for line in LINES])])
    assert all(many >= one - 1e-4 for one, many in zip(*scores, strict=True))
    assert scores[0] != pytest.approx(scores[1], abs=1e-3)  # the control: greedy was not the best


def test_an_answer_bound_to_choices_is_the_likeliest_of_them_or_one_of_them(llama: Path):
    choices = ["rome", "paris in france", "1603"]
    reader = load(llama, generation=GenerationOptions(beams=3, choices=choices, length_penalty=0.0))
    for question, line, found in zip(
        QUESTIONS, LINES, reader.answer(QUESTIONS, [hits(line) for line in LINES]), strict=True
    ):
        scores = reader.log_likelihood([question] * 3, [line] * 3, choices).sums[:, 0]
        assert found.text in choices
        assert found.score == pytest.approx(float(scores[choices.index(found.text)]), abs=1e-4)
    free = load(llama).answer(QUESTIONS, [hits(line) for line in LINES])
    assert not {one.text for one in free} & set(choices)


def test_without_passages_it_answers_from_the_question_or_not_at_all(llama: Path):
    reader = load(llama)
    closed, empty = reader.answer(QUESTIONS[:1], [[]]), load(llama, options=replace(SMALL, closed_book=False))
    assert closed[0].score > -math.inf
    assert closed[0].evidence == ()
    found = empty.answer(QUESTIONS[:2], [[], hits(PASSAGES)])
    assert (found[0].text, found[0].score, found[0].evidence) == ("", -math.inf, ())
    assert found[1].score > -math.inf
    assert reader.log_likelihood(QUESTIONS[:1], [[]], ANSWERS[:1]).sums.shape == (1, 1)
    assert reader.answer([], []) == []


def test_evidence_is_what_the_prompt_held_and_each_ones_share_on_request(taught: Path):
    """Guards against shares of passages that the model never saw."""
    reader = load(taught)
    (plain,) = reader.answer(QUESTIONS[:1], [hits(PASSAGES)])
    assert [one.passage for one in plain.evidence] == PASSAGES
    assert {one.contribution for one in plain.evidence} == {0.0}
    (found,) = reader.answer(QUESTIONS[:1], [hits(PASSAGES)], explain="leave_one_out")
    shares = {one.passage.id: one.contribution for one in found.evidence}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    without = reader.log_likelihood(QUESTIONS[:1], [PASSAGES], [found.text], given="leave_one_out").sums[0]
    wanted = (-without).softmax(-1)
    assert [shares[one.id] for one in PASSAGES] == pytest.approx(wanted.tolist(), abs=1e-4)
    tight = load(taught, options=replace(SMALL, max_prompt=200))
    (short,) = tight.answer(QUESTIONS[:1], [hits(PASSAGES)], explain="leave_one_out")
    assert len(short.evidence) == 2


def test_the_loss_is_the_mean_over_questions_of_the_mean_over_tokens(folder: Path):
    reader = load(folder)
    found = reader.answer_nll(QUESTIONS, LINES, ANSWERS)
    likelihood = reader.log_likelihood(QUESTIONS, LINES, ANSWERS)
    torch.testing.assert_close(found.detach(), -likelihood.means[:, 0].mean(), atol=1e-5, rtol=1e-5)
    one = load(folder, batch_tokens=1).answer_nll(QUESTIONS, LINES, ANSWERS)
    torch.testing.assert_close(found, one, atol=1e-5, rtol=1e-5)


def test_label_smoothing_spreads_a_share_over_the_vocabulary(llama: Path):
    reader = load(llama)
    prompt, target = prompt_of(reader, QUESTIONS[0], LINES[0]).ids, reader.inputs.answers(ANSWERS)[0]
    logits = reader.model(torch.tensor([[*prompt, *target]])).logits[0, len(prompt) - 1 : -1].detach()
    log_p = F.log_softmax(logits, -1)
    nll = -log_p[torch.arange(len(target)), target]
    found = reader.answer_nll(QUESTIONS[:1], LINES[:1], ANSWERS[:1], label_smoothing=0.2)
    torch.testing.assert_close(found.detach(), (0.8 * nll - 0.2 * log_p.mean(-1)).mean(), atol=1e-5, rtol=1e-5)


def test_gradient_checkpointing_changes_no_gradient(folder: Path):
    gradients = []
    for checkpointing in (False, True):
        reader = load(folder)
        if checkpointing:
            reader.enable_gradient_checkpointing()
        reader.train()
        for part in reader.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        reader.answer_nll(QUESTIONS, LINES, ANSWERS).backward()
        gradients.append({name: p.grad for name, p in reader.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient.isfinite().all(), name
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-4)


def test_bfloat16_weights_answer_nearly_as_float32_ones(taught: Path):
    reader = load(taught, dtype="bfloat16")
    assert {p.dtype for p in reader.parameters()} == {torch.bfloat16}
    found = reader.log_likelihood(QUESTIONS, LINES, ANSWERS)
    wanted = load(taught).log_likelihood(QUESTIONS, LINES, ANSWERS)
    assert found.tokens.dtype == torch.float32
    torch.testing.assert_close(found.means, wanted.means, atol=0.05, rtol=0)
    assert [one.text for one in reader.answer(QUESTIONS, [hits(line) for line in LINES])] == ANSWERS


def test_a_saved_reader_opens_as_it_was_in_ragkit_and_in_transformers(taught: Path, tmp_path: Path):
    options = replace(SMALL, max_prompt=300, template=PromptTemplate(cue="So:"))
    reader = load(taught, options=options, generation=GenerationOptions(beams=2, choices=["a", "b"]))
    reader.save_pretrained(tmp_path)
    again = open_reader(str(tmp_path), device="cpu", dtype="float32")
    assert isinstance(again, CausalReader)
    assert (again.options, again.generation) == (options, reader.generation)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    for name, weight in reader.model.state_dict().items():
        torch.testing.assert_close(plain.state_dict()[name], weight, rtol=0, atol=0)


def test_a_model_from_elsewhere_gets_a_prompt_that_it_has_positions_for(tmp_path: Path):
    make_model("llama", positions=400).save_pretrained(tmp_path)
    byte_tokenizer(chat=True).save_pretrained(tmp_path)
    reader = CausalReader.from_pretrained(str(tmp_path), device="cpu", dtype="float32")
    assert reader.options.max_prompt == 400 - 33
    with pytest.raises(ConfigError, match="want 453 positions, more than the 400"):
        load(tmp_path)


def test_other_kinds_of_models_are_refused(tmp_path: Path):
    shape = {"vocab_size": 300, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertLMHeadModel(BertConfig(hidden_size=16, **shape)).save_pretrained(tmp_path / "bert")
    T5ForConditionalGeneration(
        T5Config(vocab_size=300, d_model=16, num_layers=1, num_heads=2, d_kv=8, d_ff=16)
    ).save_pretrained(tmp_path / "t5")
    make_model("llama").model.save_pretrained(tmp_path / "headless")
    for name in ("bert", "t5", "headless"):
        byte_tokenizer().save_pretrained(tmp_path / name)
        with pytest.raises(ConfigError, match="wanted a decoder-only language model"):
            load(tmp_path / name)


def test_a_checkpoint_of_the_wrong_shape_is_named_by_its_key(tmp_path: Path):
    make_model("llama").save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    make_model("llama", dim=16).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"lm_head.weight has the shape \[258, 16\], wanted \[258, 32\]"):
        load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelNotFound, match="no model that transformers can open"):
        load(tmp_path)


def test_answers_that_are_nothing_or_miscounted_are_refused_before_any_work(llama: Path):
    reader = load(llama)
    with pytest.raises(InputError, match="an answer has no tokens: ' '"):
        reader.log_likelihood(QUESTIONS[:1], LINES[:1], [" "])
    with pytest.raises(InputError, match="3 questions, 3 lists of passages, 1 answers"):
        reader.answer_nll(QUESTIONS, LINES, ANSWERS[:1])
    with pytest.raises(ConfigError, match="cannot explain an answer by 'attention'"):
        reader.answer(QUESTIONS, [hits(line) for line in LINES], explain="attention")


def test_long_questions_are_cut_with_one_warning_that_counts(llama: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        load(llama).answer(["why " * 30, "who", "x" * 41], [[], [], []])
    assert [record.getMessage() for record in caplog.records] == [
        "2 of 3 questions have more than 40 tokens and were cut at their end"
    ]


def test_blank_passages_are_read_as_passages_without_text(llama: Path):
    reader = load(llama)
    found = reader.log_likelihood(QUESTIONS[:1], [[Passage("1", "  ")]], ANSWERS[:1])
    assert found.sums.isfinite().all()


def test_the_mode_is_as_it_was(llama: Path):
    reader = load(llama)
    reader.train()
    reader.answer(QUESTIONS[:1], [[]])
    assert reader.training


def test_options_of_a_chat_model_are_its_template(tmp_path: Path):
    reader = load(save_model("llama", tmp_path, chat=True), options=CausalOptions(max_prompt=420, max_question=40))
    text = reader.tokenizer.decode(prompt_of(reader, QUESTIONS[0], PASSAGES[:1]).ids)
    assert text.startswith("<|start|>user\nAnswer the question")
    assert text.endswith("<|end|>\n<|start|>assistant\nAnswer:")
