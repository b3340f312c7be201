"""Released checkpoints of other projects: synthetic ones, with the names that the real ones have."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import (
    AutoModelForSeq2SeqLM,
    BertForQuestionAnswering,
    BertModel,
    PreTrainedModel,
    T5ForConditionalGeneration,
)

from ragkit.errors import ConfigError, InputError, ModelNotFound
from ragkit.reader import ExtractiveReader, open_reader
from ragkit.reader.checkpoints import checkpoint_kind, import_checkpoint
from ragkit.reader.fid import FusionReader
from ragkit.reader.prompts import FusionOptions
from ragkit.reader.seq2seq import Seq2SeqWeights
from ragkit.retriever import DualEncoder
from ragkit.types import Passage, ScoredPassage

from .conftest import tiny_config, tiny_tokenizer
from .tiny_models import ANSWERS, PASSAGES, QUESTIONS, make_model

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.distributed.*:UserWarning")


@pytest.fixture(scope="module")
def t5_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that a reader was trained from: same shape, other weights."""
    folder = tmp_path_factory.mktemp("t5")
    model, tokenizer = make_model("t5")
    for parameter in model.parameters():
        parameter.data.zero_()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    BertModel(tiny_config(tiny_tokenizer())).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def bert(seed: int) -> BertModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BertModel(tiny_config(tiny_tokenizer())).eval()


def old_bert(model: BertModel, prefix: str) -> dict[str, Tensor]:
    """With the pooler and the buffer of positions that older versions of transformers saved."""
    state = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    return state | {f"{prefix}embeddings.position_ids": torch.arange(128)[None]}


def fid_names(model: PreTrainedModel) -> dict[str, Tensor]:
    """As transformers 3.0.2 saved a T5 whose encoder and blocks FiD had wrapped."""
    state = {}
    for name, tensor in model.state_dict().items():
        wrapped = "encoder." + name.replace(".layer.", ".module.layer.", 1) if name.startswith("encoder.") else name
        state[wrapped] = tensor
    bias = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    return state | {bias: torch.randn(32, 4)}


def score(reader: FusionReader) -> Tensor:
    return reader.log_likelihood(QUESTIONS[:1], [PASSAGES], ANSWERS[:1]).tokens


def trained_reader() -> tuple[PreTrainedModel, Tensor]:
    """A T5 and the log-likelihood that it gives as a FiD."""
    model, tokenizer = make_model("t5")
    weights = Seq2SeqWeights(model, tokenizer, FusionOptions())
    return model, score(FusionReader(weights, device="cpu", dtype="float32"))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_a_fid_checkpoint_reads_as_its_t5(t5_base: Path, tmp_path: Path, caplog: Any, zipped: bool):
    """Guards against names that do not match and leave the base model's weights in place."""
    model, wanted = trained_reader()
    (tmp_path / "nq_reader").mkdir()
    file = tmp_path / "nq_reader" / "pytorch_model.bin"
    torch.save(fid_names(model), file, _use_new_zipfile_serialization=zipped)
    assert "encoder.encoder.block.0.module.layer.0.SelfAttention.q.weight" in fid_names(model)
    with caplog.at_level(logging.WARNING):
        kind = import_checkpoint(file.parent, tmp_path / "out", base=str(t5_base))
    assert kind == "fid"
    assert "position bias in its cross-attention" in caplog.text
    reader = open_reader(str(tmp_path / "out"), device="cpu", dtype="float32")
    assert isinstance(reader, FusionReader)
    torch.testing.assert_close(score(reader), wanted, atol=1e-6, rtol=1e-6)
    assert wanted.std() > 1e-2
    loaded, report = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert isinstance(loaded, T5ForConditionalGeneration)
    assert not report["missing_keys"]


def atlas(reader: PreTrainedModel, retriever: dict[str, Tensor]) -> dict[str, Any]:
    """As Atlas saves a run: bfloat16 weights of both models, the settings and the step."""
    state = {f"reader.{name}": tensor.bfloat16() for name, tensor in reader.state_dict().items()}
    opt = argparse.Namespace(query_side_retriever_training=True, precision="bf16", name="nq", lr=4e-5)
    return {"step": 5000, "model": state | retriever, "optimizer": None, "scheduler": {"last_epoch": 3}, "opt": opt}


@pytest.mark.parametrize("untied", [False, True], ids=["one encoder", "query side trained"])
def test_an_atlas_checkpoint_becomes_a_reader_and_a_retriever(bert_base: Path, tmp_path: Path, untied: bool):
    """Guards against a prompt without the sentinel that Atlas's answers begin with, or one spelt out in letters."""
    model, tokenizer = make_model("t5")
    tokenizer.add_tokens(AddedToken("<extra_id_0>", special=True))
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    if untied:
        retriever = old_bert(bert(1), "retriever.query_contriever.") | old_bert(
            bert(2), "retriever.passage_contriever."
        )
    else:
        retriever = old_bert(bert(1), "retriever.module.contriever.")
    torch.save(atlas(model, retriever), tmp_path / "model.pth.tar")
    import_checkpoint(tmp_path, tmp_path / "out", base=str(tmp_path / "base"), retriever_base=str(bert_base))
    reader = FusionReader.from_pretrained(str(tmp_path / "out" / "reader"), device="cpu", dtype="float32")
    sentinel = len(tokenizer) - 1
    assert reader.decoder.tokens.start == (0, sentinel)
    ids = reader.inputs.encode(["who"], [PASSAGES[:1]]).lines[0][0].ids
    assert ids.count(sentinel) == 1
    torch.testing.assert_close(reader.model.shared.weight, model.shared.weight.bfloat16().float())
    encoder = DualEncoder.from_pretrained(str(tmp_path / "out" / "retriever"), device="cpu", dtype="float32")
    assert encoder.shared is not untied
    assert (encoder.options.pooling, encoder.options.passage_template) == ("mean", "{title} {text}")
    assert encoder.query_texts(["who"]) == ["question: who answer: <extra_id_0>"]
    word = "embeddings.word_embeddings.weight"
    torch.testing.assert_close(encoder.query_tower.model.get_parameter(word), bert(1).get_parameter(word))
    passage = bert(2 if untied else 1)
    torch.testing.assert_close(encoder.passage_tower.model.get_parameter(word), passage.get_parameter(word))


@pytest.mark.parametrize("projected", [False, True])
def test_a_dpr_checkpoint_gives_its_own_vectors(bert_base: Path, tmp_path: Path, projected: bool):
    """Guards against swapped towers, BERT's pooler in place of its first state, and a forgotten projection."""
    state = old_bert(bert(1), "question_model.") | old_bert(bert(2), "ctx_model.")
    project = nn.Linear(32, 16)
    if projected:
        for side in ("question_model", "ctx_model"):
            state |= {f"{side}.encode_proj.{name}": tensor for name, tensor in project.state_dict().items()}
    settings = {"do_lower_case": True, "encoder": OmegaConf.create({"projection_dim": 0, "fix_ctx_encoder": False})}
    saved = {"model_dict": state, "optimizer_dict": {}, "scheduler_dict": {}, "offset": 0, "epoch": 40}
    torch.save(saved | {"encoder_params": settings}, tmp_path / "hf_bert_base.cp")
    kind = import_checkpoint(tmp_path / "hf_bert_base.cp", tmp_path / "out", base=str(bert_base))
    assert kind == "dpr"
    encoder = DualEncoder.from_pretrained(str(tmp_path / "out"), device="cpu", dtype="float32")
    for seed, found in (
        (1, encoder.encode_queries(["who wrote hamlet"])[0]),
        (2, encoder.encode_passages([Passage("1", "who wrote hamlet")])[0]),
    ):
        ids = tiny_tokenizer()(["who wrote hamlet"], return_tensors="pt")
        with torch.no_grad():
            wanted = bert(seed)(**ids).last_hidden_state[0, 0]
            wanted = project(wanted) if projected else wanted
        torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-5, rtol=1e-5)
    assert encoder.options.passage_template == "{title} [SEP] {text}"


@pytest.mark.parametrize("prefix", ["", "encoder_q.", "encoder."], ids=["plain", "MoCo", "in batch"])
def test_a_contriever_checkpoint_gives_its_query_encoder(bert_base: Path, tmp_path: Path, prefix: str):
    """Guards against MoCo's momentum copy, and against ``encoder.`` taken from the names of BERT's own layers."""
    state = old_bert(bert(1), prefix)
    if prefix == "encoder_q.":
        state |= old_bert(bert(2), "encoder_k.") | {"queue": torch.zeros(32, 8), "queue_ptr": torch.zeros(1)}
    torch.save({"model": state, "opt": argparse.Namespace(pooling="average"), "step": 1}, tmp_path / "checkpoint.pth")
    assert import_checkpoint(tmp_path, tmp_path / "out", base=str(bert_base)) == "contriever"
    encoder = DualEncoder.from_pretrained(str(tmp_path / "out"), device="cpu", dtype="float32")
    assert encoder.shared
    with torch.no_grad():
        wanted = bert(1)(**tiny_tokenizer()(["rome is old"], return_tensors="pt")).last_hidden_state[0].mean(0)
    found = torch.from_numpy(encoder.encode_queries(["rome is old"])[0])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_a_dpr_reader_checkpoint_answers_as_its_own_heads_say(bert_base: Path, tmp_path: Path):
    theirs, selection = BertForQuestionAnswering(tiny_config(tiny_tokenizer())).eval(), nn.Linear(32, 1)
    state = {name.replace("bert.", "encoder.", 1): tensor for name, tensor in theirs.state_dict().items()}
    state |= {"encoder.pooler.dense.weight": torch.zeros(32, 32), "encoder.pooler.dense.bias": torch.zeros(32)}
    state |= {f"qa_classifier.{name}": tensor for name, tensor in selection.state_dict().items()}
    torch.save({"model_dict": state, "encoder_params": {}}, tmp_path / "reader.cp")
    assert import_checkpoint(tmp_path / "reader.cp", tmp_path / "out", base=str(bert_base)) == "dpr_reader"
    reader = open_reader(str(tmp_path / "out"), device="cpu", dtype="float32")
    assert isinstance(reader, ExtractiveReader)
    torch.testing.assert_close(reader.selection.weight, selection.weight)
    torch.testing.assert_close(reader.model.state_dict(), theirs.state_dict())
    assert reader.answer(["who wrote hamlet"], [[ScoredPassage(PASSAGES[0], 1.0)]])[0].text


class Harmful:
    """Runs when a pickle of it is opened without care."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (Path("harmed"),))


def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"encoder.block.0": torch.zeros(1)}, "opt": Harmful()}, "model.pth.tar")
    with pytest.raises(InputError, match="is not a file of weights: .*state_dict alone"):
        import_checkpoint("model.pth.tar", "out")
    assert not Path("harmed").exists()
    assert not Path("out").exists()


def test_weights_of_another_shape_are_named(t5_base: Path, tmp_path: Path):
    """Guards against a reader that is half a base model: it would load, and answer badly."""
    model, _ = make_model("t5")
    state = fid_names(model)
    state["decoder.final_layer_norm.weight"] = torch.ones(8)
    del state["encoder.encoder.block.1.module.layer.1.DenseReluDense.wi.weight"]
    state["decoder.block.7.layer.0.layer_norm.weight"] = torch.ones(32)
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError) as raised:
        import_checkpoint(tmp_path, tmp_path / "out", kind="fid", base=str(t5_base))
    for wanted in (
        r"1 missing (encoder.block.1.layer.1.DenseReluDense.wi.weight)",
        r"1 unknown (decoder.block.7.layer.0.layer_norm.weight)",
        r"1 of another shape (decoder.final_layer_norm.weight is [8], not [32])",
        "give the right base=",
    ):
        assert wanted in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_imported_says_why(tmp_path: Path):
    with pytest.raises(ModelNotFound, match="the path does not exist"):
        import_checkpoint(tmp_path / "absent", tmp_path / "out")
    with pytest.raises(ModelNotFound, match=r"must hold one of .* it holds \[\]; give the file itself"):
        import_checkpoint(tmp_path, tmp_path / "out")
    (tmp_path / "cut.bin").write_bytes(b"PK\x03\x04cut")
    with pytest.raises(InputError, match=r"cut.bin"):
        import_checkpoint(tmp_path / "cut.bin", tmp_path / "out")
    torch.save({"step": 3}, tmp_path / "empty.bin")
    with pytest.raises(InputError, match=r"holds no weights; its keys are \['step'\]"):
        import_checkpoint(tmp_path / "empty.bin", tmp_path / "out")
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "other.bin")
    with pytest.raises(ConfigError, match=r"none of \['atlas', .*conv.weight.* say which with kind="):
        import_checkpoint(tmp_path / "other.bin", tmp_path / "out")
    with pytest.raises(ConfigError, match=r"unknown kind of checkpoint 'bart'; choose from \['atlas', 'contriever'"):
        import_checkpoint(tmp_path / "other.bin", tmp_path / "out", kind="bart")
    with pytest.raises(ConfigError, match="has no weight shared.weight.* is the kind right"):
        import_checkpoint(tmp_path / "other.bin", tmp_path / "out", kind="fid")
    torch.save({"encoder.encoder.block.0": torch.zeros(1), "shared.weight": torch.zeros(5, 7)}, tmp_path / "odd.bin")
    with pytest.raises(ConfigError, match="is 7 wide, like no published base; .* base="):
        import_checkpoint(tmp_path / "odd.bin", tmp_path / "out")
    with pytest.raises(ModelNotFound, match="absent"):
        import_checkpoint(tmp_path / "odd.bin", tmp_path / "out", base=str(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["reader.shared.weight", "retriever.contriever.embeddings.word_embeddings.weight"], "atlas"),
        (["question_model.embeddings.word_embeddings.weight"], "dpr"),
        (["encoder.embeddings.word_embeddings.weight", "qa_classifier.weight"], "dpr_reader"),
        (["shared.weight", "encoder.block.0.layer.0.layer_norm.weight"], "fid"),
        (["encoder.embeddings.word_embeddings.weight"], "contriever"),
    ],
)
def test_the_kind_is_seen_from_the_names(names: list[str], kind: str):
    assert checkpoint_kind(dict.fromkeys(names, torch.zeros(1))) == kind
