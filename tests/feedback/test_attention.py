"""The attention paid to each passage, as ADist takes it."""

from __future__ import annotations

import pytest
import torch

from ragkit.errors import ConfigError
from ragkit.feedback import AnsweredQuestions, attention
from ragkit.types import Passage

PASSAGES = [Passage(str(number), f"text {number}") for number in range(3)]


def test_attention_rigged_to_one_passage_has_its_target_there(rules):
    """Property 15: a distribution over the passages that are there, zero at padding, largest where it is rigged."""
    asked = AnsweredQuestions(["a", "b"], [PASSAGES, PASSAGES[:2]], ["2", "0"])
    target = attention(rules.LookingReader({}), asked).values.softmax(dim=-1)
    torch.testing.assert_close(target.sum(dim=-1), torch.ones(2))
    assert target.argmax(dim=-1).tolist() == [2, 0]
    assert target[1, 2] == 0


def test_a_reader_without_cross_attention_is_refused_by_name(rules):
    """Guards a fallback to another signal, which would look like ADist in every log."""
    with pytest.raises(ConfigError, match="loss=adist reads cross-attention, and a RuleReader has none"):
        attention(rules.RuleReader({}), AnsweredQuestions(["a"], [PASSAGES], ["2"]))


def test_kinds_of_a_real_reader_differ(worlds, models):
    """The value norms and the place of the softmax must reach the reader, not only its signature."""
    world = worlds.make_world(worlds.Size(entities=30, words=12, name=2, values=8))
    reader = models.make_reader(world, dim=32)
    asked = AnsweredQuestions([world.examples[0].question], [world.passages[:3]], [world.examples[0].answers[0]])
    found = {kind: attention(reader, asked, kind=kind).values for kind in ("value_norm", "probability", "pre_softmax")}
    torch.testing.assert_close(found["probability"].sum(), torch.tensor(1.0))
    assert (found["value_norm"] - found["probability"]).abs().max() > 1e-3
    assert (found["pre_softmax"] < 0).all()
