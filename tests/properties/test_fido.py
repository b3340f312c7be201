"""Property 11: FiDO with everything kept is FiD; one layer in K reads; keys and values shrink as predicted."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from ragkit.reader.cache_name import cache_of
from ragkit.reader.fido import cache_factor, convert
from ragkit.reader.fido_config import reads_passages

LAYERS, HEADS, WIDTH, HEAD = 4, 4, 16, 4
few = settings(max_examples=12, deadline=None)


@pytest.fixture(scope="module")
def fid() -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = T5Config(
            vocab_size=40,
            d_model=WIDTH,
            d_kv=HEAD,
            d_ff=24,
            num_layers=LAYERS,
            num_heads=HEADS,
            decoder_start_token_id=0,
            initializer_factor=3.0,
        )
        return T5ForConditionalGeneration(config).eval()


def memories(n_tokens: int) -> Tensor:
    """The encodings of one question's passages side by side, as FiD hands them to the decoder."""
    return torch.randn(1, n_tokens, WIDTH, generator=torch.Generator().manual_seed(n_tokens))


@torch.no_grad()
def decode(model: PreTrainedModel, memory: Tensor, *, cache: bool = False) -> Any:
    answer = torch.tensor([[0, 5, 9, 7]])
    return model(
        encoder_outputs=BaseModelOutput(last_hidden_state=memory),
        attention_mask=torch.ones(memory.shape[:2], dtype=torch.long),
        decoder_input_ids=answer,
        use_cache=cache,
    )


@given(layers=st.integers(1, 40), period=st.integers(1, 45))
def test_exactly_one_layer_in_every_period_reads(layers: int, period: int):
    reading = [layer for layer in range(layers) if reads_passages(layer, layers=layers, period=period)]
    assert len(reading) == math.ceil(layers / period)
    assert set(range(period - 1, layers, period)) <= set(reading)
    assert reading[-1] == layers - 1


@few
@given(n_tokens=st.integers(1, 30))
def test_with_everything_kept_it_is_fid_and_with_less_it_is_not(fid: PreTrainedModel, n_tokens: int):
    memory = memories(n_tokens)
    wanted = decode(fid, memory).logits.log_softmax(-1)
    torch.testing.assert_close(decode(convert(fid), memory).logits.log_softmax(-1), wanted, atol=1e-5, rtol=1e-5)
    for less in ({"period": 2}, {"kv_heads": 1}, {"decoder_layers": 3}):
        assert (decode(convert(fid, **less), memory).logits.log_softmax(-1) - wanted).abs().max() > 1e-2


@few
@given(
    period=st.integers(1, 6), kv_heads=st.sampled_from([1, 2, 4]), layers=st.integers(1, LAYERS), n=st.integers(1, 20)
)
def test_the_cache_of_the_passages_is_as_small_as_predicted(
    fid: PreTrainedModel, period: int, kv_heads: int, layers: int, n: int
):
    """Guards against keys and values that are repeated for every head, or kept for layers that do not read."""
    fido = convert(fid, period=period, kv_heads=kv_heads, decoder_layers=layers)

    def size(model: PreTrainedModel) -> int:
        cache = cache_of(decode(model, memories(n), cache=True)).cross_attention_cache
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers if layer.is_initialized)

    assert size(fid) == 2 * LAYERS * HEADS * HEAD * n * 4
    assert size(fido) == 2 * math.ceil(layers / period) * kv_heads * HEAD * n * 4
    assert size(fid) == pytest.approx(cache_factor(fido, LAYERS) * size(fido))


@few
@given(order=st.permutations(range(4)), period=st.integers(1, 4), kv_heads=st.sampled_from([1, 2, 4]))
def test_the_order_and_the_repetition_of_passages_change_nothing(
    fid: PreTrainedModel, order: list[int], period: int, kv_heads: int
):
    """The cross-attention has no positions, however many layers and heads are left; other passages do change it."""
    fido = convert(fid, period=period, kv_heads=kv_heads)
    passages = memories(20).unflatten(1, (4, 5))
    wanted = decode(fido, passages.flatten(1, 2)).logits
    for same in (passages[:, order], torch.cat([passages, passages], dim=1)):
        torch.testing.assert_close(decode(fido, same.flatten(1, 2)).logits, wanted, atol=1e-4, rtol=1e-4)
    assert (decode(fido, passages[:, :3].flatten(1, 2)).logits - wanted).abs().max() > 1e-2
