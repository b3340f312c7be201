"""The retriever's scores of the passages it found, with gradient: by the weights as they are now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ragkit.feedback import AnsweredQuestions
from ragkit.retriever import DualEncoder
from ragkit.types import Passage


class PassageScores(NamedTuple):
    """Inner products, -inf where a question has no passage (``mask`` False), and the vectors of the questions."""

    scores: Float[Tensor, "query passage"]
    mask: Bool[Tensor, "query passage"]
    query_vectors: Float[Tensor, "query dim"]


def score_passages(encoder: DualEncoder, asked: AnsweredQuestions, *, is_passage_frozen: bool = False) -> PassageScores:
    """The scores of every question's passages; a passage that several questions found is encoded once.

    Vectors are made in the encoder's current mode; those of a frozen passage tower without gradient and in eval mode,
    as they were for the index. The products are float32, autocast or not.
    """
    queries = encoder.query_vectors(asked.questions)
    unique = list(dict.fromkeys(passage for line in asked.passages for passage in line))
    columns, mask = (part.to(queries.device) for part in _columns(asked.passages, unique))
    if not unique:
        return PassageScores(queries.new_zeros(columns.shape, dtype=torch.float32), mask, queries)
    vectors = _frozen_vectors(encoder, unique) if is_passage_frozen else encoder.passage_vectors(unique)
    with torch.autocast(queries.device.type, enabled=False):  # it would round the products to bfloat16
        products = queries.float() @ vectors.float().T  # [query, unique]
        scores = products.gather(1, columns).masked_fill(~mask, -torch.inf)
    return PassageScores(scores, mask, queries)


def _frozen_vectors(encoder: DualEncoder, passages: Sequence[Passage]) -> Float[Tensor, "passage dim"]:
    tower = encoder.passage_tower
    was_training = tower.training
    tower.eval()
    try:
        with torch.no_grad():
            return encoder.passage_vectors(passages)
    finally:
        tower.train(was_training)


def _columns(
    passages: Sequence[Sequence[Passage]], unique: Sequence[Passage]
) -> tuple[Int64[Tensor, "query passage"], Bool[Tensor, "query passage"]]:
    """Where in ``unique`` each passage of each question is (0 where there is none), and where there is one."""
    place = {passage: number for number, passage in enumerate(unique)}
    shape = (len(passages), max((len(line) for line in passages), default=0))
    columns, mask = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool)
    for query, line in enumerate(passages):
        columns[query, : len(line)] = torch.tensor([place[passage] for passage in line], dtype=torch.int64)
        mask[query, : len(line)] = True
    return columns, mask
