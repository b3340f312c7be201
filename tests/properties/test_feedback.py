"""Properties 13 and 15: whom the four methods teach, and what they say of redundant and of two-hop answers."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from ragkit.feedback import AnsweredQuestions, attention, leave_one_out, likelihood
from ragkit.losses import distillation_kl, marginal_nll
from ragkit.training.objectives import FeedbackObjective, Retrieved
from ragkit.training.scoring import score_passages
from ragkit.types import Passage


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rules(root: Path) -> ModuleType:
    return _load(root / "tests" / "feedback" / "rule_reader.py")


@pytest.fixture(scope="module")
def worlds(root: Path) -> ModuleType:
    return _load(root / "scripts" / "answers_world.py")


@pytest.fixture(scope="module")
def models(root: Path, worlds: ModuleType) -> ModuleType:
    del worlds  # it is imported by its name
    return _load(root / "scripts" / "answers_models.py")


FOUR = [Passage(str(number), f"text {number}") for number in range(4)]
SINGLE, REDUNDANT, TWO_HOPS = [frozenset("0")], [frozenset("0"), frozenset("1")], [frozenset("01")]
FIRST, HALVES, FLAT = (0.968, 0.011, 0.011, 0.011), (0.495, 0.495, 0.005, 0.005), (0.25,) * 4


@pytest.mark.parametrize(
    ("evidence", "ldist", "lool"),
    [(SINGLE, FIRST, FIRST), (REDUNDANT, HALVES, FLAT), (TWO_HOPS, FLAT, HALVES)],
    ids=["single", "redundant", "two hops"],
)
def test_targets_of_ldist_and_lool_are_those_of_the_table(rules, evidence, ldist, lool):
    """Property 15. The two differ exactly where an answer stands twice, and where it needs two passages."""
    reader = rules.RuleReader({"x": evidence})
    asked = AnsweredQuestions(["q"], [FOUR], ["x"])
    for signal, wanted in ((likelihood, ldist), (leave_one_out, lool)):
        target = signal(reader, asked).values.softmax(dim=-1)[0]
        torch.testing.assert_close(target, torch.tensor(wanted), atol=1e-3, rtol=0)


def test_ldist_target_of_the_worked_example():
    """definitions.md 2.3: log p (-1, -3, -3), summed, temperature 1."""
    scores = torch.zeros(1, 3, requires_grad=True)
    distillation_kl(scores, torch.tensor([[-1.0, -3.0, -3.0]])).backward()
    assert scores.grad is not None
    torch.testing.assert_close(1 / 3 - scores.grad, torch.tensor([[0.787, 0.106, 0.106]]), atol=1e-3, rtol=0)


METHODS = {
    "emdr2": FeedbackObjective(likelihood, partial(marginal_nll, temperature=0.1)),
    "emdr2 by token": FeedbackObjective(
        partial(likelihood, by_token=True), partial(marginal_nll, temperature=0.1, granularity="token")
    ),
    "ldist": FeedbackObjective(likelihood, partial(distillation_kl, temperature=0.1)),
    "lool": FeedbackObjective(leave_one_out, partial(distillation_kl, temperature=0.1)),
    "adist": FeedbackObjective(attention, partial(distillation_kl, temperature=0.1)),
}


class Leaky:
    """The mutation: feedback that keeps its gradient, for a loss that does not stop it either."""

    def __call__(self, found: Retrieved) -> Tensor:
        reader, asked = found.reader, found.asked
        each = [list(line[:1]) for line in asked.passages]
        nll = reader.answer_nll(asked.questions, each, asked.answers)  # type: ignore[union-attr]
        return -torch.logsumexp(found.scores.log_softmax(-1) - nll, dim=-1).mean()


def _gradients(worlds: ModuleType, models: ModuleType, objective) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Those of the retriever and of the reader after one step of the objective."""
    world = worlds.make_world(worlds.Size(entities=30, words=12, name=2, values=8))
    encoder, reader = models.make_retriever(world, dim=16).train(), models.make_reader(world, dim=32).train()
    examples = world.examples[:3]
    lines = [[example.positives[0], *world.passages[5:8]] for example in examples]
    asked = AnsweredQuestions([e.question for e in examples], lines, [e.answers[0] for e in examples])
    found = score_passages(encoder, asked)
    assert not found.scores.requires_grad or found.mask.all()
    objective(Retrieved(*found, asked, examples, reader, encoder)).backward()
    assert reader.training
    trained = [parameter.grad for parameter in encoder.parameters() if parameter.requires_grad]
    return trained, [parameter.grad for parameter in reader.parameters()]


def _is_isolated(reader: list[Tensor | None]) -> bool:
    return all(gradient is None or not gradient.any() for gradient in reader)


@pytest.mark.parametrize("method", METHODS)
def test_retrievers_loss_reaches_the_retriever_and_never_the_reader(worlds, models, method: str):
    """Property 13. A reader that is taught to find its own feedback likely would make any retriever look good."""
    retriever, reader = _gradients(worlds, models, METHODS[method])
    assert any(gradient is not None and gradient.abs().max() > 1e-6 for gradient in retriever)
    assert _is_isolated(reader)


def test_feedback_that_keeps_its_gradient_fails_the_isolation(worlds, models):
    """A mutation of property 13: the test above must be able to fail."""
    _, reader = _gradients(worlds, models, Leaky())
    assert not _is_isolated(reader)


@pytest.mark.parametrize("method", METHODS)
def test_without_the_stop_gradients_the_isolation_fails_for_every_method(
    worlds, models, monkeypatch: pytest.MonkeyPatch, method: str
):
    """The mutation of property 13, of the code itself: no_grad does nothing and detach gives the tensor back."""
    from ragkit.reader import cross_attention, fid

    attend = inspect.unwrap(cross_attention.attention_mass)  # no_grad is around it already

    def mutated(found: Retrieved) -> Tensor:
        with monkeypatch.context() as patch:
            for module in (cross_attention, fid):
                patch.setattr(module, "attention_mass", attend, raising=False)
            patch.setattr(torch, "no_grad", nullcontext)
            patch.setattr(Tensor, "detach", lambda self: self)
            return METHODS[method](found)

    _, reader = _gradients(worlds, models, mutated)
    assert not _is_isolated(reader)
