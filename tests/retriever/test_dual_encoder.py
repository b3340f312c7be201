"""ragkit.retriever.dual_encoder."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ragkit.errors import ConfigError, InputError, ModelNotFound, NonFiniteVectors
from ragkit.retriever import DualEncoder, EncoderOptions
from ragkit.retriever.inference import BATCH_TOKENS
from ragkit.retriever.pooling import POOLERS
from ragkit.retriever.tower import Tower
from ragkit.text.tokens import TokenBatch
from ragkit.types import Passage

DPR_OPTIONS = {"pooling": "cls", "passage_template": "{title} [SEP] {text}"}


def load(model: str, **changes: object) -> DualEncoder:
    return DualEncoder.from_pretrained(model, device="cpu", dtype="float32", **changes)  # type: ignore[arg-type]


def test_vectors_are_in_the_order_of_their_passages(bert: str, passages: list[Passage]):
    """Batches are sorted by length; vectors in that order would belong to other passages."""
    encoder = load(bert)
    together = encoder.encode_passages(passages, batch_tokens=40)
    alone = np.concatenate([encoder.encode_passages([passage]) for passage in passages])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together - together[::-1]).max() > 1e-3


def test_the_gradient_path_gives_the_vectors_of_the_encoding_path(bert: str, passages: list[Passage]):
    """Training on other vectors than those that are indexed goes unnoticed in the loss."""
    encoder = load(bert, options={"normalize": True})
    with_gradient = encoder.passage_vectors(passages)
    np.testing.assert_allclose(with_gradient.detach().numpy(), encoder.encode_passages(passages), atol=1e-5)
    queries = encoder.query_vectors(["paris?", "the capital of france"])
    np.testing.assert_allclose(
        queries.detach().numpy(), encoder.encode_queries(["paris?", "the capital of france"]), atol=1e-5
    )
    (queries @ with_gradient.T).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_vectors_with_gradient_are_made_in_parts_of_like_length(
    bert: str, passages: list[Passage], monkeypatch: pytest.MonkeyPatch
):
    """Padding each passage of a step to the longest costs most of a step on a CPU; parts must come back in order."""
    encoder = load(bert)
    widths: list[int] = []
    tower = encoder.passage_tower
    forward = tower.forward

    def watched(batch: TokenBatch, *, pooling: str, normalize: bool) -> torch.Tensor:
        widths.append(batch.ids.shape[1])
        return forward(batch, pooling=pooling, normalize=normalize)

    monkeypatch.setattr(tower, "forward", watched)

    def made(budget: int) -> tuple[torch.Tensor, torch.Tensor]:
        monkeypatch.setitem(BATCH_TOKENS, "cpu", budget)
        encoder.zero_grad()
        vectors = encoder.passage_vectors(passages)
        (vectors * torch.arange(vectors.numel()).view_as(vectors)).sum().backward()
        return vectors.detach(), torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None])

    whole, whole_gradient = made(100_000)
    assert len(widths) == 1
    parts, gradient = made(1)  # every passage by itself
    lengths = encoder.tokenize_passages(passages).mask.sum(dim=-1).tolist()
    assert widths[1:] == sorted(lengths, reverse=True)
    assert len(set(lengths)) > 1  # the control: there was padding to leave out
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(gradient, whole_gradient, rtol=1e-4, atol=1e-4)


def test_score_is_the_inner_product_of_each_question_with_its_own_passages(bert: str, passages: list[Passage]):
    """Scores against another question's passages have the right shape too."""
    encoder = load(bert)
    scores = encoder.score(["paris", "france"], [passages[:3], passages[3:6]])
    queries, vectors = encoder.query_vectors(["paris", "france"]), encoder.passage_vectors(passages[:6])
    wanted = torch.stack([vectors[:3] @ queries[0], vectors[3:6] @ queries[1]])
    torch.testing.assert_close(scores, wanted, atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="equally long"):
        encoder.score(["paris", "france"], [passages[:3], passages[3:5]])


def test_forward_gives_both_vectors(bert: str, passages: list[Passage]):
    """DDP wraps forward alone; towers called past it would not have their gradients averaged."""
    encoder = load(bert)
    queries, vectors = encoder(encoder.tokenize_queries(["paris"]), encoder.tokenize_passages(passages))
    torch.testing.assert_close(queries, encoder.query_vectors(["paris"]))
    torch.testing.assert_close(vectors, encoder.passage_vectors(passages))


def test_untied_towers_are_really_two(bert: str, passages: list[Passage]):
    """A second name for the same weights lets the trained query tower move the indexed passages (atlas did)."""
    encoder = load(bert, shared=False)
    before = encoder.encode_passages(passages)
    assert not encoder.shared
    np.testing.assert_allclose(encoder.encode_queries(["paris"]), load(bert).encode_queries(["paris"]), atol=1e-6)
    optimizer = torch.optim.SGD(encoder.query_tower.parameters(), lr=1.0)
    encoder.query_vectors(["paris"]).square().sum().backward()
    optimizer.step()
    assert np.array_equal(encoder.encode_passages(passages), before)
    assert np.abs(encoder.encode_queries(["paris"]) - load(bert).encode_queries(["paris"])).max() > 1e-4


def test_a_shared_tower_counts_its_weights_once(bert: str):
    """A state saved under two names doubles the file and lets the copies part."""
    shared, two = load(bert), load(bert, shared=False)
    assert shared.query_tower is shared.passage_tower
    assert 2 * len(shared.state_dict()) == len(two.state_dict())


@pytest.mark.parametrize("shared", [None, False])
def test_the_first_layers_give_the_states_between_the_layers(bert: str, passages: list[Passage], shared: bool | None):
    """The last layers, or those of one tower, have the right shape too."""
    encoder, whole = load(bert, layers=1, shared=shared), load(bert)
    tokens = whole.tokenize_passages(passages)
    states = whole.passage_tower.model(input_ids=tokens.ids, attention_mask=tokens.mask, output_hidden_states=True)
    first, last = (POOLERS["mean"](states.hidden_states[layer], tokens.mask) for layer in (1, 2))
    for found in (encoder.passage_vectors(passages), encoder.query_vectors(encoder.passage_texts(passages))):
        torch.testing.assert_close(found, first)
        assert (found - last).abs().max() > 1e-3


def test_an_encoder_of_the_first_layers_is_saved_and_loaded_as_such(bert: str, tmp_path: Path):
    """A configuration that still says two layers would have the second made of fresh random weights."""
    encoder = load(bert, layers=1)
    encoder.save_pretrained(tmp_path / "one")
    again = load(str(tmp_path / "one"))
    assert again.digest == encoder.digest != load(bert).digest
    assert DualEncoder.from_pretrained(**encoder.recipe, device="cpu").digest == encoder.digest
    assert load(bert, layers=2).digest == load(bert).digest


def test_the_kinds_of_the_layers_are_cut_with_them(bert: str, tmp_path: Path):
    """A saved model with more kinds of layers than layers could not be loaded again."""
    from transformers import ModernBertConfig, ModernBertModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    config = ModernBertConfig(**sizes, vocab_size=64, pad_token_id=0, cls_token_id=2, sep_token_id=3)
    model = ModernBertModel(config)
    tower = Tower(model, load(bert).passage_tower.tokenizer)
    tower.keep_layers(2)
    assert len(config.layer_types) == 2
    model.save_pretrained(tmp_path)
    assert len(ModernBertModel.from_pretrained(tmp_path).layers) == 2


@pytest.mark.parametrize("layers", [-1, 0, 3])
def test_layers_that_are_not_there_cannot_be_kept(bert: str, layers: int):
    """A slice takes any number: -1 would drop the last layer, 3 would keep two and say three."""
    with pytest.raises(ConfigError, match=f"layers={layers}, but BertModel has 2"):
        load(bert, layers=layers)


def test_a_model_without_a_list_of_its_layers_is_named(bert: str):
    """Half of the layers of a model that keeps them in two lists would be dropped in silence."""
    tower = load(bert).passage_tower
    tower.model.encoder.layer = torch.nn.Sequential(*tower.model.encoder.layer)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="BertModel has no list of its layers"):
        tower.keep_layers(1)


def test_encoding_leaves_the_training_mode_as_it_was(bert: str, passages: list[Passage]):
    """Dropout left off trains on; dropout left on makes every encoded vector random."""
    encoder = load(bert).train()
    first, second = encoder.encode_passages(passages), encoder.encode_passages(passages)
    assert np.array_equal(first, second)
    assert encoder.training
    assert encoder.passage_tower.training
    assert not torch.equal(encoder.passage_vectors(passages), encoder.passage_vectors(passages))


def test_encoding_uses_the_weights_of_now(bert: str, passages: list[Passage]):
    """A bfloat16 copy that outlived a training step would index the model of before."""
    encoder = load(bert)
    encoder.compute_dtype = torch.bfloat16
    before = encoder.encode_passages(passages)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    assert np.abs(encoder.encode_passages(passages) - before).max() > 1e-2
    assert all(parameter.dtype == torch.float32 for parameter in encoder.parameters())


def test_a_blank_query_or_passage_has_the_zero_vector(bert: str):
    """[CLS] [SEP] has a vector like any text: an empty query would get arbitrary hits."""
    encoder = load(bert, options={"normalize": True, "query_template": "query: {text}"})
    queries = encoder.encode_queries(["", "paris", " \n"])
    assert (queries[[0, 2]] == 0).all()
    assert np.isclose(np.linalg.norm(queries[1]), 1.0)
    vectors = encoder.encode_passages([Passage("a", "", ""), Passage("b", "", "paris"), Passage("c", "paris")])
    assert (vectors[0] == 0).all()
    assert np.allclose(np.linalg.norm(vectors[1:], axis=1), 1.0)


def test_no_texts_give_an_empty_matrix_of_the_right_width(bert: str):
    """An empty batch at the end of a file must not stop the run."""
    assert load(bert).encode_queries([]).shape == (0, 32)
    assert load(bert).encode_passages([]).shape == (0, 32)


@pytest.mark.parametrize("text", ["\ud800 paris", "pa\0ris", "\U0001f5fc שלום", "\udfff", "\ufeffparis", "a" * 100_000])
def test_strange_texts_are_encoded(bert: str, text: str):
    """The tokenizer raises a misleading TypeError on a lone surrogate, in the middle of a corpus."""
    encoder = load(bert)
    assert np.isfinite(encoder.encode_passages([Passage("a", text, text)])).all()
    assert np.isfinite(encoder.encode_queries([text])).all()


def test_nul_is_as_if_it_were_not_there(bert: str):
    """Some tokenizers drop NUL and some make it an unknown token."""
    encoder = load(bert)
    assert np.array_equal(encoder.encode_queries(["pa\0ris"]), encoder.encode_queries(["paris"]))


def test_passages_over_the_limit_are_cut_and_counted(bert: str, caplog: pytest.LogCaptureFixture):
    """Text that is cut in silence can never be found."""
    encoder = load(bert, options={"passage_max_length": 8})
    long, short = Passage("long", "paris " * 30), Passage("short", "paris")
    with caplog.at_level(logging.WARNING, logger="ragkit"):
        vectors = encoder.encode_passages([long, short])
    assert "1 of 2 passages were cut at 8 tokens" in caplog.text
    assert encoder.tokenize_passages([long, short]).ids.shape == (2, 8)
    np.testing.assert_allclose(vectors[0], encoder.encode_passages([Passage("x", "paris " * 6)])[0], atol=1e-6)


def test_vectors_that_are_not_finite_name_their_passages(bert: str, passages: list[Passage]):
    """FAISS takes NaN vectors without a word and loses them in the results."""
    encoder = load(bert)
    words = encoder.passage_tower.model.get_input_embeddings()  # type: ignore[operator]
    token = encoder.tokenize_passages([Passage("x", "z")]).ids[0, 1]
    with torch.no_grad():
        words.weight[token] = torch.nan
    with pytest.raises(NonFiniteVectors, match=r"1 of 13 passages: 'bad'"):
        encoder.encode_passages([*passages, Passage("bad", "z")])
    with pytest.raises(NonFiniteVectors, match="'z'"):
        encoder.encode_queries(["paris", "z"])
    assert np.isfinite(encoder.encode_passages(passages)).all()


def test_a_zero_vector_stays_zero_under_normalisation(bert: str):
    """0 / 0 is NaN."""
    encoder = load(bert, projection=4, options={"normalize": True})
    projection = encoder.passage_tower.projection
    assert projection is not None
    torch.nn.init.zeros_(projection.weight)
    torch.nn.init.zeros_(projection.bias)
    assert (encoder.encode_passages([Passage("a", "paris")]) == 0).all()


def test_dpr_checkpoints_of_the_hub_load_as_two_towers(dpr: tuple[str, str], passages: list[Passage]):
    """Their keys carry prefixes that BertModel does not know; weights without a match stay random."""
    from transformers import AutoTokenizer, DPRContextEncoder, DPRQuestionEncoder

    encoder = load(dpr[0], passage_model=dpr[1], options=DPR_OPTIONS)
    tokenizer = AutoTokenizer.from_pretrained(dpr[0])
    question = tokenizer("the capital", return_tensors="pt")
    texts = [(p.title, p.text) for p in passages if p.title]
    context = tokenizer([t for t, _ in texts], [t for _, t in texts], return_tensors="pt", padding=True)
    context["token_type_ids"] = torch.zeros_like(context["input_ids"])  # DPR was trained with zeros
    with torch.no_grad():
        queries = DPRQuestionEncoder.from_pretrained(dpr[0]).eval()(**question).pooler_output
        vectors = DPRContextEncoder.from_pretrained(dpr[1]).eval()(**context).pooler_output
    np.testing.assert_allclose(encoder.encode_queries(["the capital"]), queries.numpy(), atol=1e-5)
    found = encoder.encode_passages([passage for passage in passages if passage.title])
    np.testing.assert_allclose(found, vectors.numpy(), atol=1e-5)
    assert not encoder.shared


def test_dpr_passages_are_cls_title_sep_text_sep(dpr: tuple[str, str]):
    """A literal [SEP] tokenised as letters, or a stray one without a title, is another input than DPR's."""
    encoder = load(dpr[0], passage_model=dpr[1], options=DPR_OPTIONS)
    tokenizer = encoder.passage_tower.tokenizer.backend_tokenizer
    with_title, without = encoder.tokenize_passages([Passage("a", "paris", "france"), Passage("b", "paris")]).ids
    assert [tokenizer.id_to_token(i) for i in with_title] == ["[CLS]", "france", "[SEP]", "paris", "[SEP]"]
    assert [tokenizer.id_to_token(i) for i in without] == ["[CLS]", "paris", "[SEP]", "[PAD]", "[PAD]"]


def test_a_t5_encoder_works_without_its_decoder(tmp_path: Path, bert: str, passages: list[Passage]):
    """AutoModel would give the encoder-decoder, which wants decoder inputs."""
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 120}
    T5ForConditionalGeneration(T5Config(**sizes)).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    vectors = load(str(tmp_path)).encode_passages(passages)
    assert vectors.shape == (len(passages), 16)
    assert np.abs(vectors).max() > 0


def test_the_digest_tells_encoders_apart(bert: str, save_bert: Callable[[int], Path]):
    """An index searched with another encoder gives plausible nonsense."""
    encoder = load(bert)
    assert load(bert).digest == encoder.digest
    changed = ({"pooling": "cls"}, {"normalize": True}, {"query_template": "q: {text}"}, {"passage_max_length": 32})
    others = [load(bert, options=options) for options in changed]
    others += [load(bert, shared=False), load(str(save_bert(1))), load(bert, projection=8)]
    digests = {encoder.digest, *(other.digest for other in others)}
    assert len(digests) == 1 + len(others)
    encoder.tokenize_queries(["paris"])  # tokenizers remember the truncation of their last call
    assert load(bert).digest == encoder.digest
    with torch.no_grad():
        next(encoder.parameters()).view(-1)[7] += 1e-3
    assert load(bert).digest != encoder.digest


def test_the_recipe_loads_the_same_encoder_again(bert: str):
    """An index stores the recipe; a default that changed in between must not change the encoder."""
    encoder = load(bert, options={"pooling": "cls"}, shared=False)
    assert DualEncoder.from_pretrained(**encoder.recipe, device="cpu").digest == encoder.digest


def test_wrong_options_are_told_with_the_choices(bert: str):
    """A misspelt option that is ignored trains another model."""
    with pytest.raises(ConfigError, match=r"unknown encoder option 'poling'; choose from \['normalize'"):
        load(bert, options={"poling": "cls"})
    with pytest.raises(ConfigError, match=r"unknown pooling 'max'; choose from \['cls', 'last', 'mean'\]"):
        load(bert, options={"pooling": "max"})
    with pytest.raises(ConfigError, match="must be of type int"):
        load(bert, options={"query_max_length": "64"})
    with pytest.raises(ConfigError, match="at most 64 tokens"):
        load(bert, options={"passage_max_length": 65})
    with pytest.raises(ConfigError, match="shared=true takes one model"):
        load(bert, passage_model=bert, shared=True)


def test_none_leaves_an_option_as_the_model_has_it(bert: str):
    """conf/retriever/path.yaml writes null for all of them."""
    assert load(bert, options=dict.fromkeys(EncoderOptions().to_dict())).options == load(bert).options


def test_a_folder_without_a_model_says_so(tmp_path: Path):
    """The user sees a message, not a traceback of transformers."""
    with pytest.raises(ModelNotFound, match=r"no config\.json"):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(ModelNotFound, match="no encoder can be read"):
        load(str(tmp_path))


def test_loading_prints_nothing(bert: str, capfd: pytest.CaptureFixture[str]):
    """A table of weights on every command hides what matters."""
    load(bert)
    assert capfd.readouterr().err == ""
