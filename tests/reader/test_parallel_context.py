"""Passages read apart and joined: equal to one pass under a block-diagonal mask, kept on disk, never mixed up."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from ragkit.errors import ConfigError
from ragkit.reader.causal import CausalReader
from ragkit.reader.generation import GenerationOptions
from ragkit.reader.packing import Prompt
from ragkit.reader.parallel_context import ParallelContext

from .causal_models import ANSWERS, PASSAGES, QUESTIONS, ROTARY, SMALL, byte_tokenizer, hits, prompt_of, save_model
from .causal_models import load as load_plain

PARALLEL = replace(SMALL, context="parallel")
LINES = [PASSAGES, PASSAGES[:1], []]


def load(folder: Path, **options: object) -> CausalReader:
    return load_plain(folder, **{"options": PARALLEL, **options})


@pytest.fixture(scope="session", params=ROTARY)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("llama"))


def masked_log_probs(folder: Path, prompt: Prompt, target: list[int], *, all_tokens: bool = False) -> torch.Tensor:
    """One pass of the plain model under a block-diagonal mask.

    Every passage but the first has a copy of the head before it, at the distance it was read with, which nothing but
    that passage sees.
    """
    ids, places, blocks = list(prompt.head), list(range(len(prompt.head))), [0] * len(prompt.head)
    start = len(prompt.head)
    for number, passage in enumerate(prompt.passages, 1):
        copied = range(start - len(prompt.head), start)
        ids += [*prompt.head, *passage]
        places += [*copied, *range(start, start + len(passage))]
        blocks += [-number] * len(prompt.head) + [number] * len(passage)
        start += len(passage)
    end = [*prompt.tail, *target]
    ids, places = [*ids, *end], [*places, *range(start, start + len(end))]
    block = torch.tensor([*blocks, *[99] * len(end)])
    sees = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    same = block[:, None].abs() == block[None].abs()
    is_last = (block == 99)[:, None] & (block >= 0)[None]
    mask = torch.zeros(len(ids), len(ids)).masked_fill(~(sees & (same | is_last)), torch.finfo(torch.float32).min)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(
            torch.tensor([ids]), attention_mask=mask[None, None], position_ids=torch.tensor([places])
        ).logits[0, -len(target) - 1 : -1]
    found = logits.log_softmax(-1)
    return found if all_tokens else found[torch.arange(len(target)), target]


def test_it_equals_one_pass_under_a_block_diagonal_mask(folder: Path):
    reader = load(folder)
    found = reader.log_likelihood(QUESTIONS, LINES, ANSWERS)
    targets = reader.inputs.answers(ANSWERS)
    for row in range(3):
        wanted = masked_log_probs(folder, prompt_of(reader, QUESTIONS[row], LINES[row]), targets[row])
        torch.testing.assert_close(found.tokens[row, 0, : len(wanted)], wanted, atol=1e-5, rtol=1e-5)


def test_passages_do_not_see_each_other_and_are_moved_to_their_places(llama: Path, monkeypatch: pytest.MonkeyPatch):
    """The controls of the equality: reading on from passage to passage moves it, and so does leaving keys unturned."""
    found = load(llama).log_likelihood(QUESTIONS[:1], LINES[:1], ANSWERS[:1]).sums
    prefill = load(llama, options=SMALL).log_likelihood(QUESTIONS[:1], LINES[:1], ANSWERS[:1]).sums
    assert (found - prefill).abs() > 1e-2
    one = load(llama).log_likelihood(QUESTIONS[:1], LINES[1:2], ANSWERS[:1]).sums
    same = load(llama, options=SMALL).log_likelihood(QUESTIONS[:1], LINES[1:2], ANSWERS[:1]).sums
    torch.testing.assert_close(one, same, atol=1e-5, rtol=1e-5)  # one passage has nobody to see
    monkeypatch.setattr(ParallelContext, "_turn", lambda _self, keys, _moves: keys)
    assert (load(llama).log_likelihood(QUESTIONS[:1], LINES[:1], ANSWERS[:1]).sums - found).abs() > 1e-3


def test_every_set_of_passages_is_the_joint_likelihood_of_that_set(llama: Path):
    reader = load(llama)
    for given in ("alone", "leave_one_out"):
        found = reader.log_likelihood(QUESTIONS[:1], LINES[:1], ANSWERS[:1], given=given).sums[0]
        for row, passage in enumerate(PASSAGES):
            line = [passage] if given == "alone" else [one for one in PASSAGES if one != passage]
            wanted = reader.log_likelihood(QUESTIONS[:1], [line], ANSWERS[:1]).sums[0, 0]
            torch.testing.assert_close(found[row], wanted, atol=1e-5, rtol=1e-5)


def test_batches_do_not_change_what_is_found(folder: Path):
    whole, single = load(folder), load(folder, batch_tokens=1)
    found = [one.log_likelihood(QUESTIONS, LINES, ANSWERS, given="joint").tokens for one in (whole, single)]
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)


def test_an_answer_is_written_as_it_is_scored(folder: Path):
    """Guards against new tokens that stand at the wrong place after a joined context."""
    asked = [hits(line) for line in LINES]
    options = {"generation": GenerationOptions(max_tokens=5), "options": replace(PARALLEL, stop=())}
    reader = load(folder, **options)
    for found, question, line in zip(reader.answer(QUESTIONS, asked), QUESTIONS, LINES, strict=True):
        prompt = prompt_of(reader, question, line)
        written: list[int] = []
        while len(written) < 5 and (not written or written[-1] != 0):
            following = masked_log_probs(folder, prompt, [*written, 0], all_tokens=True)[-1]
            following[0] = following[0] if written else -torch.inf  # one token at least
            written.append(int(following.argmax()))
        assert found.text == reader.tokenizer.decode([token for token in written if token]).strip()
        assert found.score == pytest.approx(float(masked_log_probs(folder, prompt, written).sum()), abs=1e-4)


def test_the_loss_of_training_has_the_gradient_of_the_passages_too(llama: Path):
    reader = load(llama)
    reader.train()
    loss = reader.answer_nll(QUESTIONS, LINES, ANSWERS)
    found = reader.log_likelihood(QUESTIONS, LINES, ANSWERS)
    torch.testing.assert_close(loss.detach(), -found.means[:, 0].mean(), atol=1e-5, rtol=1e-5)
    loss.backward()
    weight = reader.model.get_input_embeddings().weight
    letter = byte_tokenizer()("y").input_ids[0]  # of "by" and "play": in passages alone
    assert letter not in prompt_of(reader, QUESTIONS[0], []).ids
    assert weight.grad[letter].abs().max() > 0
    with pytest.raises(ConfigError, match="gradient checkpointing drops"):
        reader.enable_gradient_checkpointing()


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def test_contexts_are_computed_once_and_found_by_the_next_process(llama: Path, tmp_path: Path):
    first = load(llama, cache_dir=str(tmp_path)).log_likelihood(QUESTIONS, LINES, ANSWERS).tokens
    files = entries(tmp_path)
    assert len(files) == 4  # three passages and the head
    reader = load(llama, cache_dir=str(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ParallelContext, "_compute", lambda *_: pytest.fail("computed again"))
        torch.testing.assert_close(reader.log_likelihood(QUESTIONS, LINES, ANSWERS).tokens, first, rtol=0, atol=1e-6)
    assert entries(tmp_path) == files


def test_contexts_are_never_served_to_another_model(llama: Path, tmp_path: Path):
    """Guards against states of weights that have been trained since, of another model, prompt or number format."""
    load(llama, cache_dir=str(tmp_path)).log_likelihood(QUESTIONS, LINES, ANSWERS)
    known = {file.parent for file in entries(tmp_path)}
    reader = load(llama, cache_dir=str(tmp_path))
    with torch.no_grad():
        reader.model.model.layers[0].self_attn.k_proj.weight.mul_(1.01)
    trained = reader.log_likelihood(QUESTIONS, LINES, ANSWERS).tokens
    fresh = load(llama)
    fresh.load_state_dict(reader.state_dict())
    torch.testing.assert_close(trained, fresh.log_likelihood(QUESTIONS, LINES, ANSWERS).tokens, rtol=0, atol=1e-6)
    other = replace(PARALLEL, template=replace(PARALLEL.template, instruction="Read!\n"))
    load(llama, cache_dir=str(tmp_path), options=other).log_likelihood(QUESTIONS, LINES, ANSWERS)
    load(llama, cache_dir=str(tmp_path), dtype="bfloat16").log_likelihood(QUESTIONS, LINES, ANSWERS)
    assert len({file.parent for file in entries(tmp_path)}) == len(known) + 3


def test_an_optimizers_step_is_seen(llama: Path):
    """Guards against a digest that is computed once and outlives the weights."""
    reader = load(llama)
    before = reader.context.digest
    assert reader.context.digest == before
    optimizer = torch.optim.AdamW(reader.parameters(), lr=1e-3)
    reader.answer_nll(QUESTIONS, LINES, ANSWERS).backward()
    optimizer.step()
    assert reader.context.digest != before


def test_an_entry_under_a_wrong_name_or_damaged_is_computed_again(
    llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    reader = load(llama, cache_dir=str(tmp_path))
    wanted = reader.log_likelihood(QUESTIONS, LINES, ANSWERS).tokens
    files = entries(tmp_path)
    flipped = bytearray(files[0].read_bytes())
    flipped[-3] ^= 0x40
    files[0].write_bytes(bytes(flipped))
    files[1].write_bytes(files[1].read_bytes()[:-5])
    files[2].write_bytes(files[3].read_bytes())
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(reader.log_likelihood(QUESTIONS, LINES, ANSWERS).tokens, wanted, rtol=0, atol=1e-6)
    assert sum("is damaged" in record.getMessage() for record in caplog.records) == 3
    assert entries(tmp_path) == files  # made again


def test_models_whose_positions_cannot_be_moved_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"which a gpt2 \(no rotary positions\)"):
        load(save_model("gpt2", tmp_path / "gpt2"))
    shape = {"vocab_size": 258, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape |= {"num_key_value_heads": 2, "intermediate_size": 16, "max_position_embeddings": 512}
    MistralForCausalLM(MistralConfig(**shape, sliding_window=64)).save_pretrained(tmp_path / "window")
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    LlamaForCausalLM(LlamaConfig(**shape, rope_parameters=rope)).save_pretrained(tmp_path / "dynamic")
    for name in ("window", "dynamic"):
        byte_tokenizer().save_pretrained(tmp_path / name)
        with pytest.raises(ConfigError, match="windows" if name == "window" else "dynamic"):
            load(tmp_path / name)
