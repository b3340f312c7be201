"""The attention of each passage, against sums written out over the queries, keys and values that the layers compute."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from ragkit.errors import ConfigError
from ragkit.reader.cross_attention import attention_mass
from ragkit.reader.decoding import AnswerDecoder
from ragkit.reader.fid import FusionReader
from ragkit.reader.fusion import Memory
from ragkit.reader.prompts import FusionOptions
from ragkit.reader.seq2seq import Seq2SeqWeights

from .tiny_models import ANSWERS, LINES, ONE_EACH, QUESTIONS, make_model, save_model

SMALL = FusionOptions(max_length=64, max_question=16)
HEADS, DIM = 4, 8
PROJECTION = re.compile(r"(EncDecAttention\.|encoder_attn\.|crossattention\.self\.)(q|k|v)\w*$")


@pytest.fixture(scope="module", params=ONE_EACH)
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FusionReader:
    folder = save_model(request.param, tmp_path_factory.mktemp(request.param))
    return FusionReader.from_pretrained(str(folder), options=SMALL, device="cpu", dtype="float32")


@pytest.fixture
def memory(reader: FusionReader) -> Memory:
    with torch.no_grad():
        return reader.encode(QUESTIONS, LINES)


def projections(reader: FusionReader, memory: Memory) -> list[dict[str, Tensor]]:
    """The queries, keys and values ([query head token dim]) of every cross-attention layer, as its layers give them."""
    layers: list[dict[str, Tensor]] = []

    def keep(name: str, out: Tensor) -> None:
        if not layers or name in layers[-1]:
            layers.append({})
        layers[-1][name] = out.unflatten(-1, (HEADS, DIM)).transpose(1, 2)

    hooks = []
    for name, module in reader.model.named_modules():
        found = PROJECTION.search(name)
        if found and isinstance(module, nn.Linear):
            kind = found.group(2)
            hooks.append(module.register_forward_hook(lambda _m, _i, out, kind=kind: keep(kind, out)))
    with torch.no_grad():
        reader.decoder.logits(memory, reader.decoder.targets(reader.inputs.answers(ANSWERS)))
    for hook in hooks:
        hook.remove()
    assert len(layers) == 2
    return layers


@pytest.mark.parametrize("kind", ["value_norm", "probability", "pre_softmax"])
def test_the_mass_is_the_written_out_sum(reader: FusionReader, memory: Memory, kind: str):
    """Guards against masses of the wrong layer, step or passage, of padding, or averaged where they are summed."""
    first = reader.decoder.first
    scale = 1.0 if "T5" in type(reader.model).__name__ else DIM**-0.5
    n_tokens = [len(ids) + 1 for ids in reader.inputs.answers(ANSWERS)]
    found = reader.attend(memory, ANSWERS, kind=kind)
    layers = projections(reader, memory)
    for query, line in enumerate(LINES):
        wanted = torch.zeros(len(line))
        for layer in layers:
            for head in range(HEADS):
                scores = layer["q"][query, head] @ layer["k"][query, head].T * scale
                attention = scores.masked_fill(~memory.mask[query], -torch.inf).softmax(-1)
                norms = layer["v"][query, head].norm(dim=-1)
                for row in range(len(line)):
                    own = memory.passage[query] == row
                    if kind == "pre_softmax":
                        wanted[row] += scores[first, own].mean() / HEADS / 2
                        continue
                    for step in range(first, first + n_tokens[query]):
                        weights = attention[step, own] * (norms[own] if kind == "value_norm" else 1)
                        wanted[row] += weights.sum() / n_tokens[query] / HEADS / 2
        mass = found[query, : len(line)]
        if kind == "pre_softmax":  # known up to a constant of the question
            mass, wanted = mass - mass.mean(), wanted - wanted.mean()
        torch.testing.assert_close(mass, wanted, atol=1e-4, rtol=1e-4)
        assert torch.isinf(found[query, len(line) :]).all()


def test_probabilities_sum_to_one_and_louder_passages_weigh_more(reader: FusionReader, memory: Memory):
    shares = reader.attend(memory, ANSWERS, kind="probability")
    torch.testing.assert_close(shares.clamp(min=0).sum(-1), torch.ones(3))
    mass = reader.attend(memory, ANSWERS)
    louder = memory.states * torch.where(memory.passage == 2, 10.0, 1.0)[..., None]
    rigged = reader.attend(Memory(louder, memory.mask, memory.passage), ANSWERS)
    assert rigged[0, 2] > 2 * mass[0, 2]
    assert rigged[0].argmax() == 2
    torch.testing.assert_close(rigged[1:], mass[1:])  # these have no third passage


def test_the_attention_implementation_is_as_before(reader: FusionReader, memory: Memory):
    decoder = reader.model.get_decoder()
    before = decoder.config._attn_implementation
    assert before == "sdpa"  # the control: the weights must come from another one
    reader.attend(memory, ANSWERS)
    assert decoder.config._attn_implementation == before
    reader.model.set_attn_implementation("eager")
    eager = reader.attend(memory, ANSWERS)
    reader.model.set_attn_implementation("sdpa")
    torch.testing.assert_close(reader.attend(memory, ANSWERS), eager)


def test_a_model_without_cross_attention_is_refused():
    model, tokenizer = make_model("bert")
    model.config.decoder.add_cross_attention = False
    with pytest.raises(ConfigError, match="EncoderDecoderModel has no cross-attention"):
        FusionReader(Seq2SeqWeights(model, tokenizer, SMALL), device="cpu")


def test_a_model_that_gives_no_attention_says_what_to_use_instead(reader: FusionReader, memory: Memory):
    class Silent(AnswerDecoder):
        def forward(self, memory: Memory, targets: object, **options: bool) -> object:
            return super().forward(memory, targets, **{**options, "output_attentions": False})

    decoder = Silent(reader.model, reader.decoder.tokens)
    targets = decoder.targets(reader.inputs.answers(ANSWERS))
    with pytest.raises(ConfigError, match="use explain=leave_one_out"):
        attention_mass(decoder, memory, targets, kind="probability")
