"""The memory holds what a straightforward padded FiD computes, without its padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ragkit.errors import InputError
from ragkit.reader.fid import FusionReader
from ragkit.reader.fusion import Memory
from ragkit.reader.prompts import FusionOptions

from .tiny_models import ANSWERS, LINES, ONE_EACH, PASSAGES, QUESTIONS, save_model

SMALL = FusionOptions(max_length=64, max_question=16)
WORDS = FusionOptions(max_length=64, max_question=16, memory="states_and_words")


@pytest.fixture(scope="module", params=ONE_EACH)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(request.param, tmp_path_factory.mktemp(request.param))


def open_tiny(folder: Path, options: FusionOptions = SMALL) -> FusionReader:
    return FusionReader.from_pretrained(str(folder), options=options, device="cpu", dtype="float32")


def refuse(*_: object) -> None:
    raise AssertionError("the encoder was used again")


def padded_nll(reader: FusionReader) -> Tensor:
    """The loss as FiD computes it: every passage padded to max_length, states side by side, padding masked."""
    n, width, model = 4, reader.options.max_length, reader.model
    ids = torch.full((len(LINES), n, width), reader.decoder.tokens.pad)
    mask = torch.zeros_like(ids)
    for query, line in enumerate(LINES):
        for row, passage in enumerate(line):
            title = f" title: {passage.title}" if passage.title else ""
            text = f"question: {QUESTIONS[query]}{title} context: {passage.text}"
            tokens = torch.tensor(reader.tokenizer(text)["input_ids"])
            ids[query, row, : len(tokens)], mask[query, row, : len(tokens)] = tokens, 1
    encoder = model.get_encoder()
    seen = mask.flatten(0, 1).clone()
    seen[:, 0] = 1  # a missing passage must attend to something; the decoder does not see it
    states = encoder(input_ids=ids.flatten(0, 1), attention_mask=seen).last_hidden_state
    states = states.view(len(LINES), n * width, -1)
    targets = reader.decoder.targets(reader.inputs.answers(ANSWERS))
    start = torch.tensor(reader.decoder.tokens.start).expand(len(LINES), -1)
    out = model(
        encoder_outputs=(states,),
        attention_mask=mask.flatten(1),
        decoder_input_ids=torch.cat([start, targets.ids[:, :-1]], -1),
    )
    log_p = out.logits[:, start.shape[1] - 1 :].log_softmax(-1).gather(-1, targets.ids[..., None])[..., 0]
    return -((log_p * targets.mask).sum(-1) / targets.mask.sum(-1)).mean()


def test_the_unpadded_form_has_the_loss_and_gradients_of_the_padded_one(folder: Path):
    """Guards against states that go to another passage's or question's place, and padding that is attended to."""
    reader = open_tiny(folder)
    padded = padded_nll(reader)
    wanted = dict(zip(*_gradients(reader, padded), strict=True))
    unpadded = reader.answer_nll(QUESTIONS, LINES, ANSWERS)
    found = dict(zip(*_gradients(reader, unpadded), strict=True))
    torch.testing.assert_close(unpadded, padded, atol=1e-5, rtol=1e-5)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-4, rtol=1e-3, msg=name)


def _gradients(reader: FusionReader, loss: Tensor) -> tuple[list[str], list[Tensor]]:
    named = [(name, weight) for name, weight in reader.named_parameters() if "pooler" not in name]
    gradients = torch.autograd.grad(loss, [weight for _, weight in named])
    return [name for name, _ in named], list(gradients)


def test_the_memory_holds_real_tokens_in_the_order_of_the_passages(folder: Path):
    reader = open_tiny(folder)
    with torch.no_grad():
        memory = reader.encode(QUESTIONS, LINES)
        assert memory.n_passages.tolist() == [4, 2, 1]
        assert bool((memory.passage.diff(dim=-1)[memory.mask[:, 1:]] >= 0).all())
        for query, line in enumerate(LINES):
            for row, passage in enumerate(line):
                alone = reader.encode(QUESTIONS[query : query + 1], [[passage]])
                torch.testing.assert_close(
                    memory.states[query, memory.passage[query] == row], alone.states[0], atol=1e-4, rtol=1e-4
                )
        assert not memory.states[~memory.mask].any()


def test_word_vectors_are_added_to_the_states_only_where_asked_for(folder: Path):
    with torch.no_grad():
        states = open_tiny(folder).encode(QUESTIONS, LINES)
        reader = open_tiny(folder, WORDS)
        both = reader.encode(QUESTIONS, LINES)
        inputs = reader.inputs.encode(QUESTIONS, LINES)
        ids = torch.tensor([token for one in inputs.lines[0] for token in one.ids])
        words = reader.model.get_encoder().get_input_embeddings()(ids)
    torch.testing.assert_close((both.states - states.states)[0, : len(ids)], words, atol=1e-5, rtol=1e-4)
    assert words.norm() > 1


def test_a_memory_can_be_scored_attended_and_answered_from_without_encoding_again(folder: Path):
    reader = open_tiny(folder)
    with torch.no_grad():
        memory = reader.encode(QUESTIONS, LINES, with_alone=True)
    reader.model.get_encoder().register_forward_pre_hook(refuse)
    found = {given: reader.score(memory, ANSWERS, given=given).sums for given in ("joint", "alone", "leave_one_out")}
    mass, texts = reader.attend(memory, ANSWERS), reader.write(memory)
    again = open_tiny(folder)
    for given, sums in found.items():
        torch.testing.assert_close(
            sums, again.log_likelihood(QUESTIONS, LINES, ANSWERS, given=given).sums, atol=1e-4, rtol=1e-5
        )
    torch.testing.assert_close(mass, again.attention_mass(QUESTIONS, LINES, ANSWERS), atol=1e-4, rtol=1e-4)
    lines = [[] for _ in LINES]
    assert len(texts) == 3
    assert texts != again.write(again.encode(QUESTIONS, lines))  # the control: without passages it writes other things


def test_leaving_out_the_only_passage_of_a_memory_needs_the_question_alone(folder: Path):
    reader = open_tiny(folder)
    memory = reader.encode(QUESTIONS[:1], [PASSAGES[:1]])
    with pytest.raises(InputError, match="with_alone=True"):
        reader.score(memory, ANSWERS[:1], given="leave_one_out")


def test_taking_tokens_keeps_their_order_and_pads_at_the_end():
    states = torch.arange(5.0)[None, :, None]
    memory = Memory(states, torch.ones(1, 5, dtype=torch.bool), torch.tensor([[0, 0, 1, 1, 1]]))
    keep = torch.tensor([[False, True, False, False, True], [True, True, True, False, True]])
    found = memory.take(torch.zeros(2, dtype=torch.int64), keep=keep)
    assert found.mask.tolist() == [[True, True, False, False], [True] * 4]
    assert found.states[..., 0].tolist()[0][:2] == [1.0, 4.0]
    assert found.states[..., 0].tolist()[1] == [0.0, 1.0, 2.0, 4.0]
    assert found.passage.tolist() == [[0, 1, -1, -1], [0, 0, 1, 1]]


def test_passages_encoded_in_two_calls_are_those_of_one(folder: Path):
    """Silent failure: a passage under another's number, or a question that is read alone beside its passages."""
    reader = open_tiny(folder)
    first, left = [[0, 2], [], [0]], [[1, 3], [0, 1], []]
    with torch.no_grad():
        whole = reader.encode(QUESTIONS, LINES, with_alone=True)
        some, others = (
            reader.encode(QUESTIONS, [[line[at] for at in places] for line, places in zip(LINES, part, strict=True)])
            for part in (first, left)
        )
        both = some.numbered(first).beside(others.numbered(left))
    assert both.n_passages.tolist() == whole.n_passages.tolist()
    for given in ("joint", "alone"):
        found, wanted = (reader.score(memory, ANSWERS, given=given).sums for memory in (both, whole))
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(reader.attend(both, ANSWERS), reader.attend(whole, ANSWERS), atol=1e-4, rtol=1e-4)
    wrong = some.numbered(first).beside(others.numbered([[3, 1], [0, 1], []]))  # the control
    assert not torch.allclose(reader.attend(wrong, ANSWERS), reader.attend(whole, ANSWERS), atol=1e-4)


def test_the_loss_of_a_memory_is_that_of_its_passages_and_reaches_its_states(folder: Path):
    reader = open_tiny(folder)
    memory = reader.encode(QUESTIONS, LINES, with_alone=True)
    loss = reader.nll(memory, ANSWERS, label_smoothing=0.1)
    wanted = reader.answer_nll(QUESTIONS, LINES, ANSWERS, label_smoothing=0.1)
    torch.testing.assert_close(loss, wanted, atol=1e-5, rtol=1e-5)
    for one, other in zip(_gradients(reader, loss)[1], _gradients(reader, wanted)[1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
    assert not memory.detached().states.requires_grad
    with pytest.raises(InputError, match="3 questions with 2 answers"):
        reader.nll(memory, ANSWERS[:2])
