from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from ragkit.reader.cache_name import cache_argument, cache_of

IDS = torch.tensor([[5, 9, 3, 7, 2, 8]])


@pytest.fixture
def model() -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def test_a_model_goes_on_from_the_cache_it_is_handed(model: PreTrainedModel):
    """Guards against a name that the model swallows, so that the second half is read as if it stood alone."""
    wanted = model(IDS).logits[:, 3:]
    first = model(IDS[:, :3], **cache_argument(DynamicCache()), use_cache=True)
    assert cache_of(first).get_seq_length() == 3
    found = model(IDS[:, 3:], **cache_argument(cache_of(first)), use_cache=True).logits
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert (model(IDS[:, 3:]).logits - wanted).abs().max() > 0.1


@torch.no_grad()
def test_generation_goes_on_from_the_cache_it_is_handed(model: PreTrainedModel):
    def written(cache: DynamicCache | None) -> Tensor:
        return model.generate(
            IDS, attention_mask=torch.ones_like(IDS), **cache_argument(cache), max_new_tokens=4, do_sample=False
        )

    first = model(IDS[:, :4], use_cache=True)
    assert written(cache_of(first)).tolist() == written(None).tolist()
    other = model(IDS.flip(1)[:, :4], use_cache=True)
    assert written(cache_of(other)).tolist() != written(None).tolist()


@torch.no_grad()
def test_without_a_cache_there_is_none(model: PreTrainedModel):
    assert cache_of(model(IDS, **cache_argument(None), use_cache=False)) is None
