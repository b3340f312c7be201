"""FiD readers from and to plain transformers folders, and what is refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, GPT2Config, GPT2LMHeadModel

from ragkit.errors import ConfigError, ModelNotFound
from ragkit.reader import ExtractiveReader, open_reader
from ragkit.reader.fid import FusionReader
from ragkit.reader.generation import GenerationOptions
from ragkit.reader.prompts import FusionOptions
from ragkit.reader.seq2seq import Seq2SeqWeights

from .tiny_models import FAMILIES, LINES, PASSAGES, QUESTIONS, hits, make_model, save_model

SMALL = FusionOptions(max_length=64, max_question=16)
HITS = [hits(*line) for line in LINES]


@pytest.fixture(params=FAMILIES)
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> FusionReader:
    folder = save_model(request.param, tmp_path / "model")
    return FusionReader.from_pretrained(str(folder), options=SMALL, device="cpu", dtype="float32")


def test_a_saved_reader_answers_as_before_and_keeps_its_options(reader: FusionReader, tmp_path: Path):
    reader.generation = GenerationOptions(beams=2, max_tokens=7, choices=["rome", "william"])
    reader.save_pretrained(tmp_path / "run" / "reader")
    settings = json.loads((tmp_path / "run" / "reader" / "ragkit.json").read_text())
    assert (settings["kind"], settings["version"]) == ("fid", 1)
    assert json.loads((tmp_path / "run" / "reader" / "generation_config.json").read_text())["num_beams"] == 2
    for folder in (tmp_path / "run", tmp_path / "run" / "reader"):
        loaded = open_reader(str(folder), device="cpu", dtype="float32")
        assert isinstance(loaded, FusionReader)
        assert (loaded.options, loaded.generation) == (reader.options, reader.generation)
        assert loaded.answer(QUESTIONS, HITS) == reader.answer(QUESTIONS, HITS)


def test_transformers_loads_the_folder_and_writes_the_same(reader: FusionReader, tmp_path: Path):
    """Guards against a decoder start, end or limit that only ragkit knows."""
    reader.save_pretrained(tmp_path / "reader")
    model, report = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "reader", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    (line,) = reader.inputs.encode(QUESTIONS[:1], [PASSAGES[:1]]).lines
    start = torch.tensor([reader.decoder.tokens.start])
    written = model.eval().generate(torch.tensor([line[0].ids]), decoder_input_ids=start)
    with torch.no_grad():
        ours = reader.decoder.generate(reader.encode(QUESTIONS[:1], [PASSAGES[:1]]), reader.generation)[0]
    assert written[0, start.shape[1] :].tolist()[: len(ours)] == ours


def test_reading_a_saved_model_in_another_form_is_warned_of(
    reader: FusionReader, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Guards against a model trained to copy that is read without the word vectors it copies from."""
    reader.options = FusionOptions(max_length=64, max_question=16, memory="states_and_words")
    reader.save_pretrained(tmp_path / "reader")
    with caplog.at_level(logging.WARNING, logger="ragkit"):
        FusionReader.from_pretrained(str(tmp_path / "reader"), device="cpu")
        FusionReader.from_pretrained(str(tmp_path / "reader"), options=reader.options, device="cpu")
        assert not caplog.records
        FusionReader.from_pretrained(str(tmp_path / "reader"), options=SMALL, device="cpu")
    (record,) = caplog.records
    assert "was trained with memory='states_and_words' and is now read with memory='states'" in record.getMessage()


def test_a_tokenizer_without_an_end_token_is_refused():
    model, tokenizer = make_model("t5")
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="has no end token"):
        FusionReader(Seq2SeqWeights(model, tokenizer, SMALL), device="cpu")


def test_a_tokenizer_that_ends_otherwise_than_the_model_is_refused():
    model, tokenizer = make_model("t5")
    model.config.eos_token_id = 7
    with pytest.raises(ConfigError, match="ends its answers with token 7 and the tokenizer's end token is 1"):
        FusionReader(Seq2SeqWeights(model, tokenizer, SMALL), device="cpu")


def test_a_decoder_without_a_start_is_refused():
    model, tokenizer = make_model("t5")
    model.config.decoder_start_token_id = None
    with pytest.raises(ConfigError, match="does not say how a decoder starts"):
        FusionReader(Seq2SeqWeights(model, tokenizer, SMALL), device="cpu")


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused():
    model, tokenizer = make_model("t5")
    tokenizer.add_tokens(["another"])
    with pytest.raises(ConfigError, match=r"has 142 words and the tokenizer 143"):
        FusionReader(Seq2SeqWeights(model, tokenizer, SMALL), device="cpu")


def test_limits_beyond_the_models_positions_are_refused(tmp_path: Path):
    folder = str(save_model("bart", tmp_path))
    with pytest.raises(ConfigError, match="max_length 200 is more than the 128 tokens this encoder takes"):
        FusionReader.from_pretrained(folder, options=FusionOptions(), device="cpu")
    with pytest.raises(ConfigError, match="max_tokens 127 is more than the 126 this decoder can write"):
        FusionReader.from_pretrained(folder, generation=GenerationOptions(max_tokens=127), device="cpu")
    assert FusionReader.from_pretrained(folder, device="cpu").options.max_length == 128


@pytest.mark.parametrize("family", ["t5", "bert"])
def test_a_checkpoint_of_the_wrong_shape_names_the_key(family: str, tmp_path: Path):
    """Guards against weights that are left random where the file does not fit."""
    folder = save_model(family, tmp_path)
    weights = load_file(folder / "model.safetensors")
    key = next(name for name in weights if "decoder" in name and "weight" in name and weights[name].ndim == 2)
    whole = weights[key]
    save_file({**weights, key: whole[:, :-1].contiguous()}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=rf"has weights of another shape than its \w+: {key} is \["):
        FusionReader.from_pretrained(str(folder), device="cpu")
    del weights[key]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=rf"lacks 1 weights of a \w+: {key}"):
        FusionReader.from_pretrained(str(folder), device="cpu")


def test_folders_of_other_kinds_are_refused(tmp_path: Path):
    _, tokenizer = make_model("t5")
    tokenizer.save_pretrained(tmp_path / "gpt")
    GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=142)).save_pretrained(tmp_path / "gpt")
    with pytest.raises(ConfigError, match="is a gpt2 model without encoder and cross-attention"):
        FusionReader.from_pretrained(str(tmp_path / "gpt"), device="cpu")
    folder = save_model("t5", tmp_path / "t5")
    (folder / "ragkit.json").write_text('{"kind": "extractive_reader"}')
    with pytest.raises(ConfigError, match="holds a extractive_reader, wanted a FiD reader"):
        FusionReader.from_pretrained(str(folder), device="cpu")
    (folder / "ragkit.json").write_text('{"kind": "fid", "inputs": {"max_size": 3}, "generation": {}}')
    with pytest.raises(ModelNotFound, match="max_size"):
        FusionReader.from_pretrained(str(folder), device="cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFound, match="holds no encoder-decoder"):
        FusionReader.from_pretrained(str(tmp_path / "empty"), device="cpu")
    with pytest.raises(ConfigError, match="extractive"):
        ExtractiveReader.from_pretrained(str(save_reader(folder, tmp_path / "fid")))


def save_reader(folder: Path, to: Path) -> Path:
    (folder / "ragkit.json").unlink()
    FusionReader.from_pretrained(str(folder), device="cpu").save_pretrained(to)
    return to
