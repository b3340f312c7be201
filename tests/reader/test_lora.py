"""Adapters: only they learn, nothing changes before they have, and a saved reader has them merged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from ragkit.device import autocast
from ragkit.errors import ConfigError
from ragkit.reader.causal import CausalReader
from ragkit.reader.lora import LoraOptions
from ragkit.types import Passage, ScoredPassage

from .causal_models import FAMILIES, SMALL, save_model

PASSAGES = [[Passage("1", "Hamlet is an old play by Shakespeare", "Hamlet")], []]
QUESTIONS, ANSWERS = ["who wrote hamlet", "when"], ["shakespeare", "in 1603"]
LORA = LoraOptions(rank=4, alpha=8)


@pytest.fixture(scope="session", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("llama"))


def load(folder: Path, *, lora: LoraOptions | None = LORA, dtype: str = "float32") -> CausalReader:
    return CausalReader.from_pretrained(str(folder), options=SMALL, lora=lora, device="cpu", dtype=dtype)


def teach(reader: CausalReader, steps: int, *, dtype: torch.dtype = torch.float32) -> list[float]:
    trained = [p for p in reader.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-2)
    losses = []
    reader.train()
    for _ in range(steps):
        with autocast(torch.device("cpu"), dtype):
            loss = reader.answer_nll(QUESTIONS, PASSAGES, ANSWERS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    reader.eval()
    return losses


def test_before_training_it_is_the_bare_model_and_two_processes_draw_the_same(folder: Path):
    bare = load(folder, lora=None).log_likelihood(QUESTIONS, PASSAGES, ANSWERS).tokens
    first, second = load(folder), load(folder)
    torch.testing.assert_close(first.log_likelihood(QUESTIONS, PASSAGES, ANSWERS).tokens, bare, atol=1e-5, rtol=1e-5)
    for name, weight in first.state_dict().items():
        torch.testing.assert_close(weight, second.state_dict()[name], rtol=0, atol=0)
    other = load(folder, lora=replace(LORA, seed=1)).state_dict()
    assert any(not weight.equal(other[name]) for name, weight in first.state_dict().items() if "lora_A" in name)


def test_only_adapters_learn_and_a_saved_reader_has_them_merged(folder: Path, tmp_path: Path):
    """Guards against adapters that are lost on the way to disk, and against a base that moves with them."""
    reader = load(folder)
    before = {name: weight.detach().clone() for name, weight in reader.named_parameters()}
    losses = teach(reader, 40)
    assert losses[-1] < 0.5 * losses[0]
    for name, weight in reader.named_parameters():
        assert weight.equal(before[name]) != ("lora_" in name), name
    reader.save_pretrained(tmp_path)
    wanted = reader.log_likelihood(QUESTIONS, PASSAGES, ANSWERS).tokens
    again = CausalReader.from_pretrained(str(tmp_path), device="cpu", dtype="float32")
    torch.testing.assert_close(again.log_likelihood(QUESTIONS, PASSAGES, ANSWERS).tokens, wanted, atol=1e-4, rtol=1e-4)
    assert not any("lora" in name for name in AutoModelForCausalLM.from_pretrained(tmp_path).state_dict())
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    teach(reader, 1)  # saving leaves the reader as it was, ready to learn on


def test_a_bfloat16_model_learns_through_float32_adapters(llama: Path, tmp_path: Path):
    reader = load(llama, dtype="bfloat16")
    assert {p.dtype for p in reader.parameters() if p.requires_grad} == {torch.float32}
    losses = teach(reader, 40, dtype=torch.bfloat16)
    assert losses[-1] < 0.5 * losses[0]
    hits = [[ScoredPassage(passage, 1.0) for passage in line] for line in PASSAGES]
    texts = [one.text for one in reader.answer(QUESTIONS, hits)]
    reader.save_pretrained(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto").dtype == torch.float32
    again = CausalReader.from_pretrained(str(tmp_path), device="cpu", dtype="bfloat16")
    assert [one.text for one in again.answer(QUESTIONS, hits)] == texts


def test_a_state_is_the_adapters_and_the_name_of_their_model(llama: Path, tmp_path: Path):
    """Guards against checkpoints as large as the model, and against adapters put on another one."""
    reader, again = load(llama), load(llama)
    teach(reader, 3)
    state = reader.state_dict()
    assert {name for name in state if "lora_" not in name} == {"base_digest"}
    again.load_state_dict(state)
    found = [one.log_likelihood(QUESTIONS, PASSAGES, ANSWERS).tokens for one in (reader, again)]
    torch.testing.assert_close(*found, rtol=0, atol=0)
    other = load(save_model("llama", tmp_path, seed=4))
    assert not other.state_dict()["base_digest"].equal(state["base_digest"])
    with pytest.raises(RuntimeError, match="adapters lack"):
        again.load_state_dict({"base_digest": state["base_digest"]})


def test_adapters_of_the_last_layers_need_no_gradient_below(llama: Path):
    reader = load(llama, lora=replace(LORA, last_layers=1, targets=["q_proj"]))
    names = [name for name, p in reader.named_parameters() if p.requires_grad]
    assert len(names) == 2
    assert all("layers.1.self_attn.q_proj" in name for name in names)


def test_gradient_checkpointing_reaches_adapters(llama: Path):
    """Guards against checkpoints whose frozen input wants no gradient, and which then pass none on."""
    gradients = []
    for checkpointing in (False, True):
        reader = load(llama)
        if checkpointing:
            reader.enable_gradient_checkpointing()
        teach(reader, 2)
        gradients.append([p.grad for p in reader.parameters() if p.requires_grad])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["query"]}, r"lora.targets \['query'\] are not in this model; choose from \['down_proj'"),
        ({"last_layers": 3}, "lora.last_layers is 3, and this model has 2 layers"),
        ({"rank": 0}, "lora wants rank >= 1"),
        ({"dropout": 1.0}, "0 <= dropout < 1"),
    ],
)
def test_options_that_do_not_fit_are_named(llama: Path, options: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        load(llama, lora=LoraOptions(**options))
