"""A FiD reader from encoders alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, BertModel

from ragkit.errors import ConfigError, ModelNotFound
from ragkit.reader import FusionOptions, FusionReader, require_trained
from ragkit.reader.fusion import Memory
from ragkit.reader.warm_start import DecoderStart, warm_start

from .conftest import tiny_config, tiny_tokenizer
from .tiny_models import ANSWERS, LINES, QUESTIONS, hits, unigram_tokenizer

COPYING = FusionOptions(max_length=64, max_question=12, memory="states_and_words")
PLAIN = FusionOptions(max_length=64, max_question=12)


def started(folder: Path, *, start: DecoderStart | None = None, options: FusionOptions = COPYING) -> FusionReader:
    return warm_start(str(folder), start=start, options=options, device="cpu", dtype="float32")


def only_word(reader: FusionReader, word: int, *, others: float) -> Memory:
    """A memory of one token: a word's vector, and a random state of ``others`` times its length."""
    vector = reader.model.get_input_embeddings().weight[word]  # type: ignore[operator]
    noise = torch.randn(vector.shape, generator=torch.Generator().manual_seed(word))
    state = others * noise / noise.norm() * vector.norm()
    return Memory((vector + state)[None, None].detach(), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1).long())


def first_word(reader: FusionReader, memory: Memory) -> int:
    targets = reader.decoder.targets([[7]])
    with torch.no_grad():
        return int(reader.decoder.logits(memory, targets)[0, 0].argmax())


def test_a_decoder_that_copies_writes_the_word_it_attends_to_before_any_training(encoder_folder: Path):
    """Were one of its identities none, training would have to find it, which took hundreds of steps of noise."""
    reader = started(encoder_folder, start=DecoderStart(copy_weight=30.0))
    words = range(5, 40)
    right = [first_word(reader, only_word(reader, word, others=0.4)) == word for word in words]
    assert all(right)
    fresh = started(encoder_folder, start=DecoderStart(copies=False), options=PLAIN)
    assert sum(first_word(fresh, only_word(fresh, word, others=0.4)) == word for word in words) < len(right) / 2


def test_states_have_the_length_asked_for_beside_the_word_vectors(encoder_folder: Path):
    """States of MiniLM are eleven times as long as its word vectors: added as they are, words would drown in them."""
    for weight in (0.5, 3.0):
        reader = started(encoder_folder, start=DecoderStart(state_weight=weight))
        encoder = reader.model.get_encoder()
        words = encoder.get_input_embeddings().weight.detach()
        ids = torch.arange(5, 40)[None]
        states = encoder(input_ids=ids).last_hidden_state[0].detach()
        ratio = states.square().sum(-1).mean().sqrt() / words.norm(dim=-1).mean()
        assert float(ratio) == pytest.approx(weight, rel=0.25)


def test_the_encoder_is_the_one_named_but_for_the_length_of_its_states(encoder_folder: Path):
    """A warm start that quietly kept fresh weights would train like one from nothing."""
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        wanted = BertModel.from_pretrained(encoder_folder, add_pooling_layer=False)(input_ids=ids).last_hidden_state
        plain = started(encoder_folder, start=DecoderStart(copies=False), options=PLAIN).model.get_encoder()
        torch.testing.assert_close(plain(input_ids=ids).last_hidden_state, wanted)
        scaled = started(encoder_folder).model.get_encoder()(input_ids=ids).last_hidden_state
    ratio = scaled / wanted
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=1e-3)
    assert float(ratio.mean()) != pytest.approx(1.0, rel=0.05)


def test_self_attention_and_word_vectors_of_the_decoder_are_the_encoders(encoder_folder: Path):
    source = BertModel.from_pretrained(encoder_folder, add_pooling_layer=False)
    decoder = started(encoder_folder, start=DecoderStart(layers=1)).model.decoder
    assert len(decoder.bert.encoder.layer) == 1
    torch.testing.assert_close(decoder.bert.embeddings.word_embeddings.weight, source.embeddings.word_embeddings.weight)
    torch.testing.assert_close(
        decoder.bert.encoder.layer[0].attention.self.query.weight, source.encoder.layer[0].attention.self.query.weight
    )
    head = decoder.cls.predictions
    assert head.decoder.weight is decoder.bert.embeddings.word_embeddings.weight
    assert head.decoder.bias is head.bias


def test_a_seed_draws_the_fresh_weights_and_leaves_the_global_generator_alone(encoder_folder: Path):
    """Processes that began with different weights would average gradients of different models."""
    before = torch.get_rng_state()
    one, same, other = (started(encoder_folder, start=DecoderStart(seed=seed)).model.state_dict() for seed in (1, 1, 2))
    torch.testing.assert_close(torch.get_rng_state(), before)
    assert [name for name in one if not torch.equal(one[name], same[name])] == []
    moved = {name for name in one if not torch.equal(one[name], other[name])}
    assert moved
    assert [name for name in moved if "crossattention" not in name] == []


def test_a_warm_started_reader_trains_saves_and_opens_as_any_other(encoder_folder: Path, tmp_path: Path):
    reader = started(encoder_folder)
    with pytest.raises(ConfigError, match="fresh"):
        require_trained(reader)
    loss = reader.answer_nll(QUESTIONS, [[*line] for line in LINES], ANSWERS)
    loss.backward()
    assert torch.isfinite(loss)
    reader.save_pretrained(tmp_path)
    again = FusionReader.from_pretrained(str(tmp_path), device="cpu", dtype="float32")
    assert again.options == COPYING
    torch.testing.assert_close(again.answer_nll(QUESTIONS, [[*line] for line in LINES], ANSWERS), loss)
    assert (
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path).config.decoder_start_token_id == reader.tokenizer.cls_token_id
    )


@pytest.mark.parametrize(
    ("start", "options", "message"),
    [
        (DecoderStart(), PLAIN, "states_and_words"),
        (DecoderStart(copies=False), COPYING, "reads states_and_words"),
        (DecoderStart(layers=9), COPYING, "start.layers is 9, and the model that the decoder starts from has 2"),
    ],
)
def test_a_start_that_does_not_fit_says_what_does(
    encoder_folder: Path, start: DecoderStart, options: FusionOptions, message: str
):
    with pytest.raises(ConfigError, match=message):
        started(encoder_folder, start=start, options=options)


def test_models_that_cannot_be_started_from_say_why(encoder_folder: Path, tmp_path: Path):
    with pytest.raises(ModelNotFound):
        warm_start(str(tmp_path / "absent"), options=COPYING)
    wide, tokenizer = tmp_path / "wide", tiny_tokenizer()
    config = tiny_config(tokenizer)
    config.hidden_size = 16
    BertModel(config).save_pretrained(wide)
    tokenizer.save_pretrained(wide)
    with pytest.raises(ConfigError, match="have 32 dimensions and the decoder's 16"):
        warm_start(str(encoder_folder), str(wide), options=COPYING)
    assert warm_start(str(encoder_folder), str(wide), start=DecoderStart(copies=False), options=PLAIN)
    unigram_tokenizer().save_pretrained(wide)
    with pytest.raises(ConfigError, match="different vocabularies"):
        warm_start(str(encoder_folder), str(wide), options=COPYING)
    (wide / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(ConfigError, match="is a t5 model"):
        warm_start(str(wide), options=COPYING)


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"state_weight": 0.0}, {"copy_weight": float("inf")}])
def test_starts_out_of_range_are_refused_by_name(wrong: dict[str, float]):
    with pytest.raises(ConfigError, match=f"start.{next(iter(wrong))}"):
        DecoderStart(**wrong)  # type: ignore[arg-type]


def test_an_answer_is_never_made_of_what_only_frames_a_text(encoder_folder: Path):
    """Where it may not end yet, a copying decoder writes MASK, whose vector lies beside SEP: read as no answer."""
    reader = started(encoder_folder)
    tokenizer = reader.tokenizer
    framing = [tokenizer.cls_token_id, tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.unk_token_id]
    memory = reader.encode(QUESTIONS[:1], [LINES[0]])
    with torch.no_grad():
        reader.model.decoder.cls.predictions.bias[framing] = 1e3
        assert int(reader.decoder.logits(memory, reader.decoder.targets([[7]]))[0, 0].argmax()) in framing
    assert all(prediction.text for prediction in reader.answer(QUESTIONS, [hits(*line) for line in LINES]))
