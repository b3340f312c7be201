"""Shares of what each passage contributed, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ragkit.reader.evidence import leave_one_out_shares, make_evidence, mass_shares

from .tiny_models import PASSAGES, hits

INF = math.inf


def test_a_passage_whose_absence_costs_most_has_the_largest_share():
    """The table of the losses: the answer stands in passage 0 alone, then in 0 and 1, then needs both."""
    without = torch.tensor([[0.01, 0.9, 0.9, 0.9], [0.9, 0.9, 0.9, 0.9], [0.01, 0.01, 0.9, 0.9]]).log()
    wanted = torch.tensor([[0.968, 0.011, 0.011, 0.011], [0.25] * 4, [0.495, 0.495, 0.005, 0.005]])
    torch.testing.assert_close(leave_one_out_shares(without), wanted, atol=1e-3, rtol=0)


def test_missing_passages_have_no_share():
    """Guards against -inf for a missing passage read as the passage without which nothing can be answered."""
    scores = torch.tensor([[-1.0, -1.0, -INF], [-INF, -INF, -INF]])
    assert leave_one_out_shares(scores).tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    assert mass_shares(torch.tensor([[3.0, 1.0, -INF], [-INF, -INF, -INF]])).tolist() == [
        [0.75, 0.25, 0.0],
        [0.0, 0.0, 0.0],
    ]


def test_evidence_is_in_order_of_contribution_and_ties_in_the_retrievers():
    found = make_evidence(hits(*PASSAGES), [0.1, 0.4, 0.4, 0.1, 0.0])
    assert [one.passage.id for one in found] == ["2", "3", "1", "4"]
    assert [one.retriever_score for one in found] == pytest.approx([1 / 2, 1 / 3, 1, 1 / 4])
    assert [one.contribution for one in make_evidence(hits(*PASSAGES))] == [0.0] * 4
    assert [one.passage.id for one in make_evidence(hits(*PASSAGES))] == ["1", "2", "3", "4"]
