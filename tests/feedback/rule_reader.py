"""A reader by rule: 0.9 for the answer where its evidence is there, 0.01 otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ragkit.reader.likelihood import AnswerLikelihood, Given
from ragkit.types import Passage


class RuleReader:
    """``evidence``: answer -> the sets of passage ids of which any one suffices. An answer is two tokens."""

    def __init__(self, evidence: Mapping[str, Sequence[frozenset[str]]]) -> None:
        self.evidence = evidence
        self.asked: list[str] = []

    def answer(self, questions: Sequence[str], passages: Sequence[Sequence[object]]) -> list[object]:
        raise NotImplementedError

    def save_pretrained(self, folder: object) -> None:
        raise NotImplementedError

    def log_likelihood(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        answers: Sequence[str],
        *,
        given: Given = "joint",
    ) -> AnswerLikelihood:
        self.asked += questions
        sets = [_sets(line, given) for line in passages]
        width = max(map(len, sets))
        tokens = torch.zeros(len(sets), width, 2)
        mask = torch.zeros(len(sets), width, dtype=torch.bool)
        for row, (line, answer) in enumerate(zip(sets, answers, strict=True)):
            for column, ids in enumerate(line):
                known = any(wanted <= ids for wanted in self.evidence[answer])
                tokens[row, column] = math.log(0.9 if known else 0.01) / 2
                mask[row, column] = True
        return AnswerLikelihood(tokens, torch.ones(len(sets), 2, dtype=torch.bool), mask)


class LookingReader(RuleReader):
    """Its attention goes to the passage whose id is the answer."""

    def attention_mass(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        answers: Sequence[str],
        *,
        kind: str = "value_norm",
    ) -> Tensor:
        del questions, kind
        width = max(map(len, passages))
        mass = torch.full((len(passages), width), -torch.inf)
        for row, line in enumerate(passages):
            for column, passage in enumerate(line):
                mass[row, column] = 5.0 if passage.id == answers[row] else 1.0
        return mass


def _sets(line: Sequence[Passage], given: Given) -> list[frozenset[str]]:
    ids = [passage.id for passage in line]
    if given == "joint":
        return [frozenset(ids)]
    if given == "alone":
        return [frozenset([one]) for one in ids]
    return [frozenset(ids[:at] + ids[at + 1 :]) for at in range(len(ids))]
