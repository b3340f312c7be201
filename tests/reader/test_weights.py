"""Readers from and to transformers' layouts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    BertForQuestionAnswering,
    DPRConfig,
    DPRReader,
)

from ragkit.errors import ConfigError, ModelNotFound
from ragkit.reader import ExtractiveReader, InputOptions, open_reader, require_trained
from ragkit.types import Passage, ScoredPassage

from .conftest import tiny_config, tiny_tokenizer

SMALL = InputOptions(max_length=48, max_question=10, max_title=6)
HITS = [ScoredPassage(Passage("1", "Hamlet is an old play by William Shakespeare", "Hamlet"), 1.0)]


def test_a_saved_reader_answers_as_before(reader: ExtractiveReader, tmp_path: Path):
    reader.save_pretrained(tmp_path / "run" / "reader")
    for folder in (tmp_path / "run", tmp_path / "run" / "reader"):
        loaded = open_reader(str(folder), device="cpu", dtype="float32")
        assert loaded.inputs.options == reader.inputs.options
        assert loaded.answer(["who wrote hamlet"], [HITS]) == reader.answer(["who wrote hamlet"], [HITS])


def test_transformers_loads_the_saved_encoder_and_span_head(reader: ExtractiveReader, tmp_path: Path):
    reader.save_pretrained(tmp_path)
    model, info = AutoModelForQuestionAnswering.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    batch = reader.inputs.batch([reader.inputs.pairs(reader.inputs.questions(["who"]).ids, [HITS[0].passage])])
    out = model.eval()(input_ids=batch.ids[0], attention_mask=batch.mask[0].long(), token_type_ids=batch.segments[0])
    ours = reader(batch.ids, batch.mask, batch.segments)
    torch.testing.assert_close(out.start_logits, ours.start[0])
    torch.testing.assert_close(out.end_logits, ours.end[0])


def test_fresh_heads_are_the_same_each_time_and_leave_the_global_random_state_to_the_caller(encoder_folder: Path):
    """Guards against processes that start from different heads, which no broadcast would mend without DDP."""
    heads = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        reader = ExtractiveReader.from_pretrained(str(encoder_folder), device="cpu", options=SMALL)
        heads.append(torch.cat([reader.selection.weight, reader.model.qa_outputs.weight]))
    torch.testing.assert_close(heads[0], heads[1], rtol=0, atol=0)
    assert heads[0].std() > 0.01


def test_a_published_dpr_reader_gives_its_own_logits(tmp_path: Path):
    """Guards against a converted checkpoint that loads and answers, with other logits than its authors'."""
    tokenizer = tiny_tokenizer()
    config = DPRConfig(
        **{
            key: value
            for key, value in tiny_config(tokenizer).to_dict().items()
            if key not in ("model_type", "architectures")
        }
    )
    config.max_position_embeddings = 512
    theirs = DPRReader(config).eval()
    theirs.save_pretrained(tmp_path)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(tmp_path)
    reader = open_reader(str(tmp_path), device="cpu", dtype="float32")
    assert not reader.inputs.options.segments
    batch = reader.inputs.batch([reader.inputs.pairs(reader.inputs.questions(["who"]).ids, [HITS[0].passage])])
    ours = reader(batch.ids, batch.mask, batch.segments)
    out = theirs(input_ids=batch.ids[0], attention_mask=batch.mask[0].long())
    torch.testing.assert_close(ours.start[0], out.start_logits)
    torch.testing.assert_close(ours.end[0], out.end_logits)
    torch.testing.assert_close(ours.selection[0], out.relevance_logits)


def test_a_question_answering_model_keeps_its_span_head_and_must_still_be_trained(tmp_path: Path):
    tokenizer = tiny_tokenizer()
    model = BertForQuestionAnswering(tiny_config(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reader = ExtractiveReader.from_pretrained(str(tmp_path), options=SMALL, device="cpu")
    torch.testing.assert_close(reader.model.qa_outputs.weight, model.qa_outputs.weight)
    assert not reader.is_trained


def test_an_encoder_is_not_opened_as_a_reader(encoder_folder: Path, reader: ExtractiveReader):
    """Guards against answers from random heads, wherever the reader comes from."""
    with pytest.raises(ConfigError, match=f"{encoder_folder} has fresh weights"):
        require_trained(reader)
    reader.is_trained = True
    require_trained(reader)
    require_trained(None)
    with pytest.raises(ConfigError, match="not a reader and would answer at random; train one"):
        open_reader(str(encoder_folder), device="cpu")


def test_a_saved_retriever_is_not_a_reader(reader: ExtractiveReader, tmp_path: Path):
    reader.save_pretrained(tmp_path)
    (tmp_path / "ragkit.json").write_text('{"kind": "dual_encoder"}')
    with pytest.raises(ConfigError, match="holds a dual_encoder, wanted a reader"):
        open_reader(str(tmp_path), device="cpu")


def test_missing_and_damaged_folders_say_what_to_give(reader: ExtractiveReader, tmp_path: Path):
    with pytest.raises(ModelNotFound, match="does not exist"):
        open_reader(str(tmp_path / "absent"), device="cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFound, match="holds no reader"):
        open_reader(str(tmp_path / "empty"), device="cpu")
    reader.save_pretrained(tmp_path / "damaged")
    (tmp_path / "damaged" / "ragkit.json").write_text("{")
    with pytest.raises(ModelNotFound, match="damaged"):
        open_reader(str(tmp_path / "damaged"), device="cpu")
