"""FiD answers from all passages together, whatever the batches, for every family of encoder-decoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM

from ragkit.reader.fid import FusionReader
from ragkit.reader.prompts import FusionOptions
from ragkit.reader.protocol import AttendingReader, ExplainingReader

from .tiny_models import ANSWERS, FAMILIES, LINES, PASSAGES, QUESTIONS, hits, save_model

SMALL = FusionOptions(max_length=64, max_question=16)


@pytest.fixture(scope="session", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def reader(folder: Path) -> FusionReader:
    return FusionReader.from_pretrained(str(folder), options=SMALL, device="cpu", dtype="float32")


def test_a_fusion_reader_scores_attends_and_explains(reader: FusionReader):
    assert isinstance(reader, AttendingReader)
    assert isinstance(reader, ExplainingReader)


def test_with_one_passage_it_is_the_plain_model(reader: FusionReader, folder: Path):
    """Guards against special tokens, starts and masks that differ from what the model was trained with."""
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), reader.tokenizer
    text = f"question: {QUESTIONS[0]} title: {PASSAGES[0].title} context: {PASSAGES[0].text}"
    labels = tokenizer(ANSWERS[0], return_tensors="pt").input_ids
    start = torch.tensor([[reader.decoder.tokens.start[0]]])
    if labels[0, 0] == start[0, 0]:
        labels = labels[:, 1:]  # a BERT's CLS
    with torch.no_grad():
        encoded = tokenizer(text, return_tensors="pt")
        out = model(**encoded, decoder_input_ids=torch.cat([start, labels[:, :-1]], -1))
    wanted = out.logits.log_softmax(-1).gather(-1, labels[..., None])[0, :, 0]
    likelihood = reader.log_likelihood(QUESTIONS[:1], [PASSAGES[:1]], ANSWERS[:1])
    n = likelihood.tokens.shape[-1]  # BART's <s> is given, not scored
    torch.testing.assert_close(likelihood.tokens[0, 0], wanted[-n:], atol=1e-5, rtol=1e-5)
    ours = reader.decoder.generate(reader.encode(QUESTIONS[:1], [PASSAGES[:1]]), reader.generation)
    theirs = model.generate(
        **encoded,
        decoder_input_ids=torch.tensor([reader.decoder.tokens.start]),
        decoder_start_token_id=reader.decoder.tokens.start[0],
        max_new_tokens=40,
        min_new_tokens=1,
        eos_token_id=reader.decoder.tokens.end,
        pad_token_id=reader.decoder.tokens.pad,
    )
    assert theirs[0, len(reader.decoder.tokens.start) :].tolist()[: len(ours[0])] == ours[0]


@pytest.mark.parametrize("given", ["joint", "alone", "leave_one_out"])
def test_sets_from_one_encoder_pass_equal_reading_them_one_by_one(reader: FusionReader, given: str):
    """Guards against feedback computed from other passages than it is credited to."""
    found = reader.log_likelihood(QUESTIONS, LINES, ANSWERS, given=given)
    for query, line in enumerate(LINES):
        for row in range(len(line)):
            rest = {"joint": line, "alone": line[row : row + 1], "leave_one_out": line[:row] + line[row + 1 :]}[given]
            one = reader.log_likelihood(QUESTIONS[query : query + 1], [rest], ANSWERS[query : query + 1])
            column = 0 if given == "joint" else row
            torch.testing.assert_close(found.sums[query, column], one.sums[0, 0], atol=2e-5, rtol=1e-5)
    assert torch.isfinite(found.sums).sum() == (3 if given == "joint" else 7)
    if given != "joint":  # the control: sets differ
        assert found.sums[0].std() > 1e-2


def test_the_loss_is_the_mean_over_questions_and_has_a_gradient_in_every_weight(reader: FusionReader):
    found = reader.log_likelihood(QUESTIONS, LINES, ANSWERS)
    loss = reader.answer_nll(QUESTIONS, LINES, ANSWERS)
    torch.testing.assert_close(loss, -found.means.mean(), atol=1e-5, rtol=1e-5)
    loss.backward()
    without = [n for n, p in reader.named_parameters() if p.grad is None and "pooler" not in n]
    assert not without


def test_batches_and_company_do_not_change_an_answer(reader: FusionReader):
    lines = [hits(*line) for line in LINES]
    together = reader.answer(QUESTIONS, lines)
    reader.batch_tokens = 1
    alone = reader.answer(QUESTIONS, lines)
    assert [one.text for one in together] == [one.text for one in alone]
    assert [one.score for one in together] == pytest.approx([one.score for one in alone], abs=1e-4, rel=1e-5)
    assert len({one.text for one in together}) > 1


@pytest.mark.parametrize("explain", ["leave_one_out", "attention"])
def test_contributions_are_shares_largest_first(reader: FusionReader, explain: str):
    found = reader.answer(QUESTIONS, [hits(*line) for line in LINES], explain=explain)
    for prediction, line in zip(found, LINES, strict=True):
        shares = [evidence.contribution for evidence in prediction.evidence]
        assert sum(shares) == pytest.approx(1.0, abs=1e-5)
        assert shares == sorted(shares, reverse=True)
        assert {evidence.passage.id for evidence in prediction.evidence} == {passage.id for passage in line}
    assert found[0].evidence[0].contribution > found[0].evidence[-1].contribution


def test_gradient_checkpointing_gives_the_same_gradients(folder: Path):
    """Guards against groups of passages whose gradient is lost in the recomputation; dropout must be drawn again."""
    gradients, passes = [], []
    for checkpointed in (False, True):
        reader = FusionReader.from_pretrained(str(folder), options=SMALL, device="cpu", dtype="float32").train()
        if checkpointed:
            reader.enable_gradient_checkpointing()
        calls: list[int] = []
        layer = [module for module in reader.model.get_encoder().modules() if isinstance(module, nn.Linear)][0]
        layer.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        with torch.random.fork_rng():
            torch.manual_seed(3)
            reader.answer_nll(QUESTIONS, LINES, ANSWERS, label_smoothing=0.1).backward()
        gradients.append([p.grad for n, p in reader.named_parameters() if "pooler" not in n])
        passes.append(len(calls))
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, atol=1e-5, rtol=1e-4)
    assert passes[1] == 2 * passes[0]  # the control: activations were computed twice


def test_label_smoothing_adds_the_mean_over_the_vocabulary(reader: FusionReader):
    with torch.no_grad():
        memory = reader.encode(QUESTIONS, LINES)
        targets = reader.decoder.targets(reader.inputs.answers(ANSWERS))
        log_p = reader.decoder.logits(memory, targets).log_softmax(-1)
        plain = -log_p.gather(-1, targets.ids[..., None])[..., 0]
        smooth = 0.8 * plain + 0.2 * -log_p.mean(-1)
        wanted = torch.stack([line[mask].mean() for line, mask in zip(smooth, targets.mask, strict=True)]).mean()
        found = reader.answer_nll(QUESTIONS, LINES, ANSWERS, label_smoothing=0.2)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)


def test_scoring_leaves_mode_and_graph_alone_and_its_result_can_enter_one(reader: FusionReader):
    """Guards against feedback that reaches the reader, or that a retriever's loss cannot save for its backward."""
    reader.train()
    found = reader.log_likelihood(QUESTIONS, LINES, ANSWERS, given="alone")
    mass = reader.attention_mass(QUESTIONS, LINES, ANSWERS)
    assert reader.training
    assert not found.tokens.requires_grad
    assert not mass.requires_grad
    scores = torch.zeros(3, 4, requires_grad=True)
    (scores.softmax(-1) * found.sums.clamp(min=-99)).sum().backward()
    assert scores.grad is not None
    torch.testing.assert_close(found.sums, reader.eval().log_likelihood(QUESTIONS, LINES, ANSWERS, given="alone").sums)


def test_bfloat16_is_near_float32(reader: FusionReader, folder: Path):
    half = FusionReader.from_pretrained(str(folder), options=SMALL, device="cpu", dtype="bfloat16")
    for given in ("joint", "leave_one_out"):
        wanted = reader.log_likelihood(QUESTIONS, LINES, ANSWERS, given=given).means
        found = half.log_likelihood(QUESTIONS, LINES, ANSWERS, given=given).means
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, atol=0.6, rtol=0.1)
    assert half.answer(QUESTIONS, [hits(*line) for line in LINES], explain="attention")[0].evidence[0].contribution > 0
    assert half.model.dtype == torch.float32
