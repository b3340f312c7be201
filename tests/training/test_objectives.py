"""What a retriever is trained for, and how several objectives add up."""

from __future__ import annotations

import importlib.util
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from ragkit.errors import ConfigError
from ragkit.feedback import AnsweredQuestions, likelihood
from ragkit.losses import contrastive, distillation_kl, marginal_nll
from ragkit.training.objectives import FeedbackObjective, GoldObjective, ObjectiveSum, Retrieved, Weighted
from ragkit.training.scoring import score_passages
from ragkit.types import Example, Passage


@pytest.fixture(scope="module")
def rules(root: Path):
    path = root / "tests" / "feedback" / "rule_reader.py"
    spec = importlib.util.spec_from_file_location("rule_reader", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["rule_reader"] = module
    spec.loader.exec_module(module)
    return module


def _found(tiny, model_dir: Path, rules, lines) -> Retrieved:
    encoder = tiny.encoder(model_dir).eval()
    examples = tiny.questions(len(lines))
    asked = AnsweredQuestions([example.question for example in examples], lines, ["x"] * len(lines))
    reader = rules.RuleReader({"x": [frozenset({"a"})]})
    return Retrieved(*score_passages(encoder, asked), asked, examples, reader, encoder)


A, B, C = Passage("a", "red fox"), Passage("b", "the old river"), Passage("c", "a long hill")
EMDR2 = FeedbackObjective(likelihood, partial(marginal_nll, temperature=0.5))
LDIST = FeedbackObjective(likelihood, partial(distillation_kl, temperature=0.5))


def test_scores_are_the_inner_products_of_a_question_with_its_own_passages(tiny, model_dir: Path, rules):
    """A passage that two questions found is encoded once: its column must still be each question's own."""
    found = _found(tiny, model_dir, rules, [[A, B], [C, A, B], []])
    by_hand = found.encoder.score([found.asked.questions[1]], [[C, A, B]])
    torch.testing.assert_close(found.scores[1:2], by_hand)
    assert found.mask.tolist() == [[True, True, False], [True] * 3, [False] * 3]
    assert torch.isneginf(found.scores[2]).all()


@pytest.mark.parametrize("objective", [EMDR2, LDIST], ids=["emdr2", "ldist"])
def test_questions_with_few_or_no_passages_count_by_their_share(tiny, model_dir: Path, rules, objective):
    """Guards nan from a question that found nothing, and a mean over fewer questions than the batch has."""
    whole = objective(_found(tiny, model_dir, rules, [[A, B], [C, A, B], []]))
    first, second = (objective(_found(tiny, model_dir, rules, lines)) for lines in ([[A, B]], [[A, B], [C, A, B]]))
    assert torch.isfinite(whole)
    torch.testing.assert_close(whole, second * 2 / 3)
    assert whole != first
    whole.backward()


def test_scale_and_reduction_of_the_reference_systems_are_options(tiny, model_dir: Path, rules):
    found = _found(tiny, model_dir, rules, [[A, B, C]])
    atlas = FeedbackObjective(
        likelihood, partial(distillation_kl, temperature=0.5), score_scale="sqrt_dim", per_passage=True
    )
    target = likelihood(found.reader, found.asked).values
    wanted = distillation_kl(found.scores / 32**0.5, target, temperature=0.5) / 3
    torch.testing.assert_close(atlas(found), wanted)


def test_how_much_the_target_tells_apart_is_left_for_the_log(tiny, model_dir: Path, rules):
    """A target of equal shares trains on without a word; the marginal has no target, and no figure."""
    shares = {}
    for temperature in (1e-3, 1e6):
        found = _found(tiny, model_dir, rules, [[A, B, C], [C, A, B]])
        FeedbackObjective(likelihood, partial(distillation_kl, feedback_temperature=temperature))(found)
        shares[temperature] = found.figures["likelihood_top_share"]
    assert shares[1e-3] == pytest.approx(1.0)
    assert shares[1e6] == pytest.approx(1 / 3, rel=1e-3)
    found = _found(tiny, model_dir, rules, [[A, B]])
    EMDR2(found)
    assert found.figures == {}


def test_the_figures_have_the_same_names_where_a_process_found_no_passage(tiny, model_dir: Path, rules):
    """Silent failure: processes that add up different figures wait for each other, or add what is not alike."""
    some, none = (_found(tiny, model_dir, rules, lines) for lines in ([[A, B]], [[], []]))
    for found in (some, none):
        LDIST(found)
    assert some.figures.keys() == none.figures.keys() == {"likelihood_top_share"}


def test_an_objective_of_feedback_without_a_reader_is_refused(tiny, model_dir: Path, rules):
    found = _found(tiny, model_dir, rules, [[A, B]])
    with pytest.raises(ConfigError, match="there is no reader"):
        EMDR2(Retrieved(found.scores, found.mask, found.query_vectors, found.asked, found.items, None, found.encoder))


def test_sum_of_objectives_is_weighted_and_gold_passages_are_dprs_loss(tiny, model_dir: Path, rules):
    """Feedback beside supervised contrastive: each must be itself, times its weight."""
    found = _found(tiny, model_dir, rules, [[A, B], [C, A, B]])
    gold = GoldObjective(temperature=0.2)
    positives = found.encoder.passage_vectors([item.positives[0] for item in found.items])
    wanted = contrastive(found.query_vectors, positives, torch.arange(2), temperature=0.2)
    torch.testing.assert_close(gold(found), wanted)
    both = ObjectiveSum({"ldist": Weighted(LDIST, 2.0), "gold": Weighted(gold, 0.5)})
    torch.testing.assert_close(both(found), 2 * LDIST(found) + 0.5 * wanted)
    with pytest.raises(ConfigError, match="there is no reader"):
        both.check(None, found.asked)
    ObjectiveSum({"gold": Weighted(gold)}).check(None, found.asked)
    assert both.settings["ldist"]["weight"] == 2.0
    with pytest.raises(ConfigError, match="0 or more"):
        Weighted(gold, -1.0)


def test_questions_without_gold_add_nothing_to_the_supervised_part(tiny, model_dir: Path, rules):
    found = _found(tiny, model_dir, rules, [[A, B], [A, B], [A, C]])
    bare = [*found.items[:2], Example("x", "who", ("x",))]
    some = GoldObjective()(
        Retrieved(found.scores, found.mask, found.query_vectors, found.asked, bare, found.reader, found.encoder)
    )
    two = _found(tiny, model_dir, rules, [[A, B], [A, B]])
    torch.testing.assert_close(some, GoldObjective()(two) * 2 / 3)
