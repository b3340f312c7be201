"""FiDO's model: a T5 with fewer cross-attentions and fewer heads of keys and values, exactly as converted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    BartForConditionalGeneration,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from ragkit.errors import ConfigError
from ragkit.reader import FidoShape, FusionOptions, FusionReader, open_fido, open_reader
from ragkit.reader.cache_name import cache_of
from ragkit.reader.fido import cache_factor, convert, kept_layers, pool_heads
from ragkit.reader.fido_model import FidoForConditionalGeneration
from ragkit.reader.gradient_checkpointing import checkpoint_gradients
from ragkit.text.models import quiet

from .tiny_models import ANSWERS, LINES, QUESTIONS, hits, save_model

SHAPE = {"vocab_size": 61, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4, "dropout_rate": 0.0}
KINDS = ("t5", "t5_v1_1", "mt5")


def make_t5(kind: str = "t5", *, layers: int = 4, **options: Any) -> PreTrainedModel:
    """Random weights, large enough that every part of it matters."""
    shape = SHAPE | {"num_layers": layers, "decoder_start_token_id": 0, "initializer_factor": 2.0} | options
    with torch.random.fork_rng():
        torch.manual_seed(7)
        if kind == "t5":
            return T5ForConditionalGeneration(T5Config(**shape)).eval()
        if kind == "mt5":
            return MT5ForConditionalGeneration(MT5Config(**shape)).eval()
        model = T5ForConditionalGeneration(T5Config(**shape, feed_forward_proj="gated-gelu", tie_word_embeddings=False))
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))  # the published ones differ
        return model.eval()


def inputs(*, answer: int = 5) -> dict[str, Tensor]:
    """Three questions with memories of 11, 7 and 11 tokens."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(2, 60, (3, 11), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "decoder_input_ids": torch.randint(2, 60, (3, answer), generator=generator),
    }


@torch.no_grad()
def logits(model: PreTrainedModel) -> Tensor:
    found: Tensor = model(**inputs()).logits
    return found


def by_hand(model: PreTrainedModel, *, period: int, kv_heads: int) -> PreTrainedModel:
    """A T5 that computes what FiDO must: averaged heads written out for every head, the other layers blind."""
    blocks = model.decoder.block
    for number, block in enumerate(blocks, start=1):
        for attention in (block.layer[0].SelfAttention, block.layer[1].EncDecAttention):
            for projection in (attention.k, attention.v):
                heads = projection.weight.data.view(kv_heads, -1, 8, 32)
                heads.copy_(heads.mean(dim=1, keepdim=True).expand_as(heads))
        if number % period and number != len(blocks):
            block.layer[1].EncDecAttention.o.weight.data.zero_()
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_with_every_layer_and_all_heads_it_is_the_t5(kind: str, attention: str):
    """Property 11. Guards against position biases, scaling or masks that differ from T5's."""
    model = make_t5(kind)
    model.set_attn_implementation(attention)
    torch.testing.assert_close(logits(convert(model)), logits(model), atol=1e-5, rtol=1e-5)
    assert (logits(convert(model, period=2)) - logits(model)).abs().max() > 1e-2
    assert (logits(convert(model, kv_heads=2)) - logits(model)).abs().max() > 1e-2


@pytest.mark.parametrize(("period", "kv_heads"), [(2, 1), (3, 2), (4, 4)])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_what_is_left_out_is_nothing_but_cross_attention_and_what_is_shared_is_the_mean(
    period: int, kv_heads: int, attention: str
):
    """Guards against heads given to the wrong group, and layers that keep what others should."""
    fido = convert(make_t5(), period=period, kv_heads=kv_heads)
    fido.set_attn_implementation(attention)
    wanted = logits(by_hand(make_t5(), period=period, kv_heads=kv_heads))
    torch.testing.assert_close(logits(fido), wanted, atol=1e-4, rtol=1e-4)  # of logits up to about 50


def test_pooled_heads_are_means_of_neighbours():
    config = convert(make_t5(), kv_heads=2).config
    projection = torch.arange(32.0)[:, None].expand(32, 32)  # head h holds 8h .. 8h + 7
    pooled = pool_heads(projection, config)
    torch.testing.assert_close(pooled[:, 0], torch.cat([torch.arange(4.0, 12.0), torch.arange(20.0, 28.0)]))


@pytest.mark.parametrize(("layers", "kept", "wanted"), [(12, 4, [0, 4, 7, 11]), (4, 1, [0]), (3, 3, [0, 1, 2])])
def test_the_kept_layers_are_evenly_spaced(layers: int, kept: int, wanted: list[int]):
    assert kept_layers(layers, kept, name="decoder_layers") == wanted


def test_encoder_and_decoder_may_differ_in_depth():
    model = make_t5()
    fido = convert(model, encoder_layers=2, decoder_layers=3)
    model.encoder.block = torch.nn.ModuleList(model.encoder.block[i] for i in (0, 3))
    model.decoder.block = torch.nn.ModuleList(model.decoder.block[i] for i in (0, 2, 3))
    torch.testing.assert_close(logits(fido), logits(model), atol=1e-5, rtol=1e-5)
    assert fido.generate(**inputs(answer=1), max_new_tokens=4).shape[1] > 1


def cache_bytes(model: PreTrainedModel) -> tuple[int, int]:
    """Of the answer's and of the passages' keys and values."""
    with torch.no_grad():
        cache = cache_of(model(**inputs(), use_cache=True))

    def total(part: Any) -> int:
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in part.layers if layer.is_initialized)

    return total(cache.self_attention_cache), total(cache.cross_attention_cache)


@pytest.mark.parametrize(("period", "kv_heads", "factor"), [(1, 4, 1), (2, 4, 2), (1, 1, 4), (2, 2, 4), (4, 1, 16)])
def test_keys_and_values_shrink_by_exactly_the_predicted_factor(period: int, kv_heads: int, factor: int):
    """Property 11. Guards against shared heads that are repeated before they are cached."""
    model = make_t5()
    fido = convert(model, period=period, kv_heads=kv_heads)
    own, passages = cache_bytes(model)
    fido_own, fido_passages = cache_bytes(fido)
    assert own == fido_own * 4 // kv_heads
    assert passages == factor * fido_passages
    assert cache_factor(fido, 4) == factor


@pytest.mark.parametrize("beams", [1, 3])
def test_generation_with_the_cache_is_generation_without(beams: int):
    """Guards against caches that are read at the wrong layer or not reordered with the beams."""
    fido = convert(make_t5("t5_v1_1"), period=3, kv_heads=2)
    options = {"max_new_tokens": 6, "num_beams": beams, "do_sample": False}
    start = {**inputs(answer=1), "decoder_input_ids": torch.zeros(3, 1, dtype=torch.long)}
    cached = fido.generate(**start, **options)
    torch.testing.assert_close(cached, fido.generate(**start, **options, use_cache=False))
    assert len(set(map(tuple, cached.tolist()))) > 1


def test_generation_writes_what_a_t5_writes():
    model = make_t5("t5_v1_1")
    start = {**inputs(answer=1), "decoder_input_ids": torch.zeros(3, 1, dtype=torch.long)}
    for options in ({}, {"num_beams": 2, "length_penalty": 0.5}):
        torch.testing.assert_close(
            convert(model).generate(**start, max_new_tokens=6, **options),
            model.generate(**start, max_new_tokens=6, **options),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_saved_as_a_plain_folder_that_transformers_opens(kind: str, tmp_path: Path):
    """Guards against a head that is tied again, or a configuration that forgets its shape."""
    fido = convert(make_t5(kind), period=2, kv_heads=1, encoder_layers=3)
    with quiet():
        fido.save_pretrained(tmp_path)
        loaded, report = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(loaded, FidoForConditionalGeneration)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    torch.testing.assert_close(logits(loaded.eval()), logits(fido), atol=0, rtol=0)
    assert (loaded.lm_head.weight is loaded.shared.weight) == (kind != "t5_v1_1")


def test_the_original_is_left_as_it_was():
    model = make_t5()
    before = logits(model)
    fido = convert(model, kv_heads=1, decoder_layers=2)
    for parameter in fido.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(logits(model), before, atol=0, rtol=0)


def test_gradients_reach_every_weight_and_checkpointing_gives_the_same():
    batch = {**inputs(), "labels": inputs()["decoder_input_ids"]}
    grads = []
    for checkpointing in (False, True):
        fido = convert(make_t5(), period=2, kv_heads=2).train()
        if checkpointing:
            checkpoint_gradients(fido)
        fido(**batch).loss.backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in fido.parameters())
        grads.append({name: parameter.grad for name, parameter in fido.named_parameters()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-6, rtol=1e-5, msg=name)


def test_the_loss_is_that_of_the_t5():
    model, labels = make_t5(), inputs()["decoder_input_ids"].masked_fill(torch.eye(3, 5).bool(), -100)
    batch = {key: value for key, value in inputs().items() if key != "decoder_input_ids"}
    torch.testing.assert_close(convert(model)(**batch, labels=labels).loss, model(**batch, labels=labels).loss)


def test_bfloat16_gives_nearly_the_same():
    fido = convert(make_t5(initializer_factor=1.0), period=2, kv_heads=2)
    wanted = logits(fido).softmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        found = logits(fido).float().softmax(-1)
    assert (found - wanted).abs().max() < 0.05
    assert found.isfinite().all()


def test_attention_is_returned_for_the_layers_that_read_and_for_every_query_head():
    fido = convert(make_t5(), period=3, kv_heads=2)
    with torch.no_grad():
        out = fido(**inputs(), use_cache=True, output_attentions=True)
    assert [tuple(layer.shape) for layer in out.cross_attentions] == [(3, 4, 5, 11)] * 2
    assert [tuple(layer.shape) for layer in out.decoder_attentions] == [(3, 4, 5, 5)] * 4
    torch.testing.assert_close(out.cross_attentions[0].sum(-1), torch.ones(3, 4, 5))
    assert out.cross_attentions[0][1, ..., 7:].sum() == 0
    assert len(cache_of(out).cross_attention_cache.layers) == 2
    torch.testing.assert_close(out.logits, logits(fido), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
@torch.no_grad()
def test_the_model_takes_the_cache_by_its_new_and_by_its_old_name(name: str):
    """Guards against a cache that is swallowed with the arguments that do not matter: each step would start anew."""
    fido, batch = convert(make_t5(), period=2, kv_heads=2), inputs()
    answer = batch.pop("decoder_input_ids")
    first = fido(**batch, decoder_input_ids=answer[:, :3], use_cache=True)
    rest = fido(**batch, decoder_input_ids=answer[:, 3:], use_cache=True, **{name: cache_of(first)})
    torch.testing.assert_close(rest.logits, logits(fido)[:, 3:], atol=1e-5, rtol=1e-5)


def test_masked_answer_tokens_change_nothing_behind_them():
    """Guards against a decoder mask that is taken for the memory's."""
    fido, batch = convert(make_t5(), kv_heads=1), inputs()
    mask = torch.ones(3, 5, dtype=torch.long)
    mask[:, 1] = 0
    with torch.no_grad():
        first = fido(**batch, decoder_attention_mask=mask).logits
        batch["decoder_input_ids"][:, 1] = 9
        second = fido(**batch, decoder_attention_mask=mask).logits
    torch.testing.assert_close(first[:, 2:], second[:, 2:])
    assert (logits(fido)[:, 2:] - first[:, 2:]).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_heads": 3}, r"does not divide the 4 heads of this model; choose from \[1, 2, 4\]"),
        ({"kv_heads": 0}, "kv_heads is 0"),
        ({"period": 0}, "period is 0; 1 keeps"),
        ({"decoder_layers": 5}, "decoder_layers is 5; this model has 4 layers"),
        ({"encoder_layers": 0}, "encoder_layers is 0"),
    ],
)
def test_numbers_that_do_not_fit_say_which_do(options: dict[str, int], message: str):
    with pytest.raises(ConfigError, match=message):
        convert(make_t5(), **options)


def test_only_the_t5_family_is_converted():
    bart = BartForConditionalGeneration(
        BartConfig(
            vocab_size=61,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
        )
    )
    with pytest.raises(ConfigError, match="made from a T5 or mT5 model, got BartForConditionalGeneration"):
        convert(bart)


SMALL = FusionOptions(max_length=64, max_question=16)
ALL = FidoShape(period=1, kv_heads=None)


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("t5", tmp_path_factory.mktemp("t5"))


def open_small(folder: Path, shape: FidoShape | None) -> FusionReader:
    return open_fido(str(folder), shape=shape, options=SMALL, device="cpu", dtype="float32")


@pytest.mark.parametrize("given", ["joint", "alone", "leave_one_out"])
def test_the_reader_with_everything_kept_scores_as_fid(t5_folder: Path, given: Any):
    plain = FusionReader.from_pretrained(str(t5_folder), options=SMALL, device="cpu", dtype="float32")
    wanted = plain.log_likelihood(QUESTIONS, LINES, ANSWERS, given=given)
    found = open_small(t5_folder, ALL).log_likelihood(QUESTIONS, LINES, ANSWERS, given=given)
    torch.testing.assert_close(found.tokens, wanted.tokens, atol=1e-5, rtol=1e-5)
    less = open_small(t5_folder, FidoShape(period=2, kv_heads=1))
    assert (less.log_likelihood(QUESTIONS, LINES, ANSWERS, given=given).tokens - wanted.tokens).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["value_norm", "probability", "pre_softmax"])
def test_the_readers_attention_is_that_of_fid_where_everything_is_kept(t5_folder: Path, kind: Any):
    """Guards against heads of keys and values that are counted once where they serve several heads."""
    plain = FusionReader.from_pretrained(str(t5_folder), options=SMALL, device="cpu", dtype="float32")
    wanted = plain.attention_mass(QUESTIONS, LINES, ANSWERS, kind=kind)
    found = open_small(t5_folder, ALL).attention_mass(QUESTIONS, LINES, ANSWERS, kind=kind)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    shared = open_small(t5_folder, FidoShape(period=2, kv_heads=2))
    mass = shared.attention_mass(QUESTIONS, LINES, ANSWERS, kind="probability")
    torch.testing.assert_close(mass.masked_fill(mass.isinf(), 0.0).sum(-1), torch.ones(3))


def test_a_saved_fido_reader_opens_as_one_and_answers_as_before(t5_folder: Path, tmp_path: Path):
    reader = open_small(t5_folder, FidoShape(period=2, kv_heads=2, encoder_layers=1))
    reader.save_pretrained(tmp_path / "reader")
    assert json.loads((tmp_path / "reader" / "ragkit.json").read_text())["kind"] == "fido"
    passages = [hits(*line) for line in LINES]
    wanted = reader.answer(QUESTIONS, passages, explain="attention")
    for loaded in (
        open_reader(str(tmp_path), device="cpu", dtype="float32"),
        open_fido(str(tmp_path / "reader"), device="cpu", dtype="float32"),
        open_fido(
            str(tmp_path / "reader"),
            shape=FidoShape(period=2, kv_heads=2),
            options=SMALL,
            device="cpu",
            dtype="float32",
        ),
    ):
        assert loaded.answer(QUESTIONS, passages, explain="attention") == wanted
    with pytest.raises(ConfigError, match=r"of another shape \(period 2, not 3; kv_heads 2, not 1\); leave the shape"):
        open_fido(str(tmp_path / "reader"), shape=FidoShape(), device="cpu")


def test_the_reader_trains(t5_folder: Path):
    reader = open_small(t5_folder, FidoShape(period=2, kv_heads=1)).train()
    optimizer = torch.optim.Adam(reader.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        loss = reader.answer_nll(QUESTIONS, LINES, ANSWERS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
