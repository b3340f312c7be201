"""What the encoder sees: the question before each passage, cut where it may be cut."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from ragkit.errors import ConfigError, InputError
from ragkit.reader.fid import FusionReader
from ragkit.reader.prompts import ALONE, FusionOptions, PromptEncoder
from ragkit.reader.seq2seq import Seq2SeqWeights
from ragkit.types import Passage

from .tiny_models import FAMILIES, PASSAGES, QUESTIONS, hits, make_model, save_model, unigram_tokenizer

SMALL = FusionOptions(max_length=64, max_question=16)
QUESTION = "who wrote hamlet"


@pytest.fixture(scope="module", params=FAMILIES[:3])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return make_model(request.param)[1]


def plain(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    text = tokenizer.decode(ids, skip_special_tokens=True).lower()
    return re.sub(r"[^a-z]", "", text)


def test_an_input_is_the_whole_text_tokenised_at_once(tokenizer: PreTrainedTokenizerFast):
    """Guards against pieces whose tokens differ at the seam: a byte-level vocabulary has words with a space."""
    for passage in PASSAGES:
        (line,) = PromptEncoder(tokenizer, SMALL).encode([QUESTION], [[passage]]).lines
        title = f" title: {passage.title}" if passage.title else ""
        wanted = tokenizer(f"question: {QUESTION}{title} context: {passage.text}")["input_ids"]
        assert len(wanted) <= 64
        assert line[0].ids == wanted


def test_a_long_passage_is_cut_at_its_end_and_a_long_question_at_its_own(tokenizer: PreTrainedTokenizerFast):
    """Guards against a long question that pushes the passage out, and a cut end token."""
    encoder = PromptEncoder(tokenizer, FusionOptions(max_length=48, max_question=6))
    long = Passage("1", " ".join(["Hamlet"] * 100))
    inputs = encoder.encode([QUESTION, " ".join([QUESTION] * 9)], [[long], [long]])
    assert inputs.n_cut == (1 if len(tokenizer(QUESTION, add_special_tokens=False)["input_ids"]) <= 6 else 2)
    whole = tokenizer(f"question: {QUESTION} context: {long.text}")["input_ids"]
    for (one,) in inputs.lines:
        assert len(one.ids) == 48
        assert one.ids[-1] == whole[-1]
    kept = tokenizer(" ".join([QUESTION] * 9), add_special_tokens=False)["input_ids"][:6]
    text = plain(tokenizer, inputs.lines[1][0].ids)
    assert text.startswith(f"question{plain(tokenizer, kept)}contexthamlet")
    assert len(text) > len(f"question{plain(tokenizer, kept)}contexthamlethamlet")


def test_cut_questions_are_counted_in_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    options = FusionOptions(max_length=48, max_question=5)
    reader = FusionReader.from_pretrained(str(save_model("t5", tmp_path)), options=options, device="cpu")
    with caplog.at_level(logging.WARNING, logger="ragkit"):
        reader.answer([QUESTIONS[0], " ".join(QUESTIONS), " ".join(QUESTIONS)], [hits(*PASSAGES)] * 3)
    assert [record.getMessage() for record in caplog.records] == [
        "2 of 3 questions have more than 5 tokens and were cut at their end"
    ]


def test_no_passages_and_an_only_passage_leave_the_question_alone():
    encoder = PromptEncoder(unigram_tokenizer(), SMALL)
    alone = encoder.tokenizer(f"question: {QUESTION}")["input_ids"]
    lines = [[], PASSAGES[:1], PASSAGES[:2]]
    assert encoder.encode([QUESTION], [[]]).lines == [[(alone, ALONE)]]
    owners = [[one.passage for one in line] for line in encoder.encode([QUESTION] * 3, lines, with_alone=True).lines]
    assert owners == [[ALONE], [0, ALONE], [0, 1]]


def test_a_blank_passage_is_read_as_an_empty_context():
    encoder = PromptEncoder(unigram_tokenizer(), SMALL)
    (line,) = encoder.encode([QUESTION], [[Passage("1", "   "), Passage("2", "", " ")]]).lines
    wanted = encoder.tokenizer(f"question: {QUESTION} context:")["input_ids"]
    assert [one.passage for one in line] == [0, 1]
    assert [token for token in line[1].ids if encoder.tokenizer.decode([token]).strip()] == [
        token for token in wanted if encoder.tokenizer.decode([token]).strip()
    ]


def test_an_end_token_written_in_a_text_is_text(tokenizer: PreTrainedTokenizerFast):
    """Guards against a passage, question or answer that ends its own input."""
    encoder = PromptEncoder(tokenizer, SMALL)
    sign = tokenizer.eos_token or tokenizer.sep_token
    end = tokenizer.convert_tokens_to_ids(sign)
    (line,) = encoder.encode([f"who {sign} wrote"], [[Passage("1", f"a {sign} b", f"{sign}")]]).lines
    assert line[0].ids.count(end) == 1
    assert end not in encoder.answers([f"a {sign} b"])[0]


def test_an_answer_without_tokens_is_named_before_any_work(tmp_path: Path):
    reader = FusionReader.from_pretrained(str(save_model("bert", tmp_path)), options=SMALL, device="cpu")
    for score in (reader.log_likelihood, reader.attention_mass, reader.answer_nll):
        with pytest.raises(InputError, match=r"1 answers have no tokens: ' \\x00' \(number 1\)"):
            score(QUESTIONS[:2], [PASSAGES, PASSAGES], ["rome", " \0"])


def test_lists_of_different_lengths_are_refused(tmp_path: Path):
    reader = FusionReader.from_pretrained(str(save_model("t5", tmp_path)), options=SMALL, device="cpu")
    with pytest.raises(InputError, match="2 questions with 1 lists of passages"):
        reader.answer(QUESTIONS[:2], [hits(*PASSAGES)])
    with pytest.raises(InputError, match="2 questions with 1 answers"):
        reader.log_likelihood(QUESTIONS[:2], [PASSAGES, PASSAGES], ["rome"])
    assert reader.answer([], []) == []


def test_limits_and_templates_are_checked_when_the_reader_is_made():
    with pytest.raises(ConfigError, match="max_length 30 leaves no room for a passage after max_question 20"):
        PromptEncoder(unigram_tokenizer(), FusionOptions(max_length=30, max_question=20))
    with pytest.raises(ConfigError, match="unknown field {context}"):
        FusionOptions(passage="{context}")
    with pytest.raises(ConfigError, match="max_question is 0"):
        FusionOptions(max_question=0)


def test_special_tokens_of_a_pattern_work_and_stand_before_every_answer():
    """Guards against a sentinel that is read letter by letter, as Atlas's readers were never trained to."""
    model, tokenizer = make_model("t5")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<extra_id_0>"]})
    model.resize_token_embeddings(len(tokenizer))
    sentinel = tokenizer.convert_tokens_to_ids("<extra_id_0>")
    options = FusionOptions(
        max_length=64, max_question=16, question="question: {text} answer: <extra_id_0>", answer_start="<extra_id_0>"
    )
    reader = FusionReader(Seq2SeqWeights(model, tokenizer, options), device="cpu", dtype="float32")
    (line,) = reader.inputs.encode(["who <extra_id_0> wrote"], [PASSAGES[:1]]).lines
    assert line[0].ids.count(sentinel) == 1
    assert (
        line[0].ids
        == tokenizer(
            f"question: who < extra_id_0> wrote answer: <extra_id_0> title: Hamlet context: {PASSAGES[0].text}"
        )["input_ids"]
    )
    assert reader.decoder.tokens.start == (0, sentinel)
    assert sentinel not in reader.inputs.answers(["<extra_id_0> rome"])[0]
    with torch.no_grad():
        found = reader.log_likelihood(QUESTIONS[:1], [PASSAGES[:1]], ["rome"]).tokens[0, 0]
        ids = torch.tensor([reader.inputs.encode(QUESTIONS[:1], [PASSAGES[:1]]).lines[0][0].ids])
        (rome,) = reader.inputs.answers(["rome"])
        out = model(input_ids=ids, decoder_input_ids=torch.tensor([[0, sentinel, *rome]])).logits.log_softmax(-1)
    torch.testing.assert_close(found, out[0, torch.arange(1, 2 + len(rome)), [*rome, 1]], atol=1e-5, rtol=1e-5)
