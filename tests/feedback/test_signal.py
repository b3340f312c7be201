"""What every signal does to a reader: nothing."""

from __future__ import annotations

import pytest
import torch

from ragkit.feedback import AnsweredQuestions, attention, leave_one_out, likelihood


@pytest.mark.parametrize("signal", [likelihood, leave_one_out, attention])
def test_a_reader_is_as_it_was_after_giving_feedback(worlds, models, signal):
    """Guards a reader left in eval mode (its dropout off for the rest of the run) and gradients kept for nothing."""
    world = worlds.make_world(worlds.Size(entities=30, words=12, name=2, values=8))
    reader = models.make_reader(world, dim=32).train()
    reader.model.decoder.eval()  # a part that was frozen so must stay so
    before = {name: module.training for name, module in reader.named_modules()}
    asked = AnsweredQuestions([world.examples[0].question], [world.passages[:3]], [world.examples[0].answers[0]])
    found = signal(reader, asked)
    assert not found.values.requires_grad
    assert not found.values.is_inference()  # a retriever's loss must be able to keep it for its backward pass
    assert {name: module.training for name, module in reader.named_modules()} == before
    assert torch.isfinite(found.values).all()
