"""How likely an extractive reader finds a given answer: the probability of the places where it stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ragkit.errors import InputError
from ragkit.metrics.matching import token_line
from ragkit.reader.inputs import EncodedPassage, ReaderBatch, pad_spans
from ragkit.reader.likelihood import AnswerLikelihood, Given
from ragkit.reader.places import answer_places
from ragkit.reader.reading import length_batches
from ragkit.reader.spans import token_spans
from ragkit.types import Passage

if TYPE_CHECKING:
    from ragkit.reader.extractive import ExtractiveReader

Answers = Sequence[str] | Sequence[Sequence[str]]

NO_SPAN = math.log(1e-4)  # in place of log 0, where an answer does not stand: the marginal over passages stays finite
NEVER = -80.0  # the same where the reader itself is trained: a passage without the answer must not carry it


class PassageLikelihood(NamedTuple):
    """What one pass over all passages gives; -inf where there is no passage, and where there is nothing to select."""

    spans: Float[Tensor, "query passage"]  # log of the sum of P(start) P(end) over the answer's places; 0 for none
    has_span: Bool[Tensor, "query passage"]
    selection: Float[Tensor, "query passage"]  # the selection logit, -inf without text


def passage_likelihood(
    reader: ExtractiveReader,
    questions: Sequence[str],
    passages: Sequence[Sequence[Passage]],
    answers: Answers,
    *,
    with_relevance: bool = True,
) -> PassageLikelihood:
    """The log-probability of the answer's places in every passage, and every passage's relevance.

    Float32, with gradient where that is on, in the reader's current mode; any of several answers of a question counts.
    The probabilities are those of :func:`ragkit.losses.marginal_span`: normalised over all tokens of the passage.
    Without ``with_relevance`` passages in which no answer stands are not read at all, and ``selection`` is -inf there.

    Raises:
        InputError: an answer has no letter, digit or sign; or the lists differ in length.
    """
    wanted = _checked(questions, passages, answers)
    tokens = reader.inputs.questions(questions).ids
    places = [(query, column) for query, line in enumerate(passages) for column in range(len(line))]
    flat = [passages[query][column] for query, column in places]
    encoded = reader.inputs.pairs([tokens[query] for query, _ in places], flat)
    lines = [
        _spans(one, passage, wanted[query]) for one, passage, (query, _) in zip(encoded, flat, places, strict=True)
    ]
    read = [row for row, line in enumerate(lines) if with_relevance or line]
    spans, selection = _scored(reader, encoded, lines, read=read)
    has_span = torch.tensor([len(line) > 0 for line in lines], dtype=torch.bool, device=reader.device)
    shape = (len(questions), max((len(line) for line in passages), default=0))
    return PassageLikelihood(
        _arranged(spans, places, torch.full(shape, -torch.inf, device=reader.device)),
        _arranged(has_span, places, torch.zeros(shape, dtype=torch.bool, device=reader.device)),
        _arranged(selection, places, torch.full(shape, -torch.inf, device=reader.device)),
    )


def likelihood(found: PassageLikelihood, *, given: Given, floor: float = NO_SPAN) -> AnswerLikelihood:
    """The answer's likelihood as one token, from what :func:`passage_likelihood` found; nothing is below ``floor``.

    ``alone``: that of its places in each passage. ``joint``: the places' probability in each passage, weighed by the
    softmax of relevance over all of them. ``leave_one_out``: the same over all but each. A passage in which the answer
    does not stand counts as ``floor``, and so does a set without any passage that has text.
    """
    is_there = found.spans > -torch.inf
    spans = found.spans.masked_fill(~found.has_span, floor).clamp(min=floor)
    if given == "alone":
        sets, mask = spans, is_there
    elif given == "joint":
        sets = _mixture(spans, found.selection, floor=floor)[:, None]
        mask = torch.ones_like(sets, dtype=torch.bool)
    else:
        others = ~torch.eye(spans.shape[1], dtype=torch.bool, device=spans.device)  # [set, passage]
        selection = found.selection[:, None, :].expand(-1, len(others), -1).masked_fill(~others, -torch.inf)
        sets, mask = _mixture(spans[:, None, :].expand_as(selection), selection, floor=floor), is_there
    one_token = torch.ones(len(sets), 1, dtype=torch.bool, device=sets.device)
    return AnswerLikelihood(sets.masked_fill(~mask, 0.0)[..., None], one_token, mask)


def _mixture(
    spans: Float[Tensor, "*set passage"], selection: Float[Tensor, "*set passage"], *, floor: float
) -> Float[Tensor, " *set"]:
    """``log sum_z softmax(selection)_z exp(spans_z)``; ``floor`` where no passage can be selected."""
    if not spans.shape[-1]:
        return spans.new_full(spans.shape[:-1], floor)
    # a line of nothing but -inf has no softmax and a nan gradient: it is made flat and replaced
    is_empty = ~(selection > -torch.inf).any(dim=-1, keepdim=True)
    share = selection.masked_fill(is_empty, 0.0).log_softmax(dim=-1)
    return (share + spans).logsumexp(dim=-1).masked_fill(is_empty.squeeze(-1), floor)


def _arranged(values: Tensor, places: Sequence[tuple[int, int]], into: Tensor) -> Tensor:
    """``into`` with the values at their places ``(query, column)``."""
    if not places:
        return into
    queries, columns = torch.tensor(places, device=into.device).unbind(dim=-1)
    return into.index_put((queries, columns), values)


def _scored(
    reader: ExtractiveReader,
    encoded: Sequence[EncodedPassage],
    spans: Sequence[Sequence[tuple[int, int]]],
    *,
    read: Sequence[int],
) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
    """The answer's log-probability in each input, and its selection logit; 0 and -inf in those that are not ``read``.

    Batches hold like lengths.
    """
    order: list[int] = []
    parts: list[tuple[Tensor, Tensor]] = []
    for places in length_batches([len(encoded[row].ids) for row in read], budget=reader.batch_tokens):
        rows = [read[place] for place in places]
        batch: ReaderBatch = reader.inputs.batch([[encoded[row] for row in rows]]).to(reader.device)
        scores = reader(batch.ids, batch.mask, batch.segments)
        where = pad_spans([spans[row] for row in rows]).to(reader.device)
        parts.append((_log_probability(scores.start[0], scores.end[0], where), scores.selection[0]))
        order += rows
    found = torch.zeros(len(encoded), device=reader.device)
    selection = torch.full_like(found, -torch.inf)
    if parts:
        at = (torch.tensor(order, device=reader.device),)
        found, selection = (
            into.index_put(at, torch.cat(part))
            for into, part in zip((found, selection), zip(*parts, strict=True), strict=True)
        )
    has_text = torch.tensor([len(one.words) > 0 for one in encoded], dtype=torch.bool, device=reader.device)
    return found, selection.masked_fill(~has_text, -torch.inf)


def _log_probability(
    start: Float[Tensor, "row token"], end: Float[Tensor, "row token"], spans: Tensor
) -> Float[Tensor, " row"]:
    """``log sum P(start) P(end)`` over the spans ``[row, span, 2]``; 0 for a row without any."""
    if not spans.shape[1]:
        return torch.zeros_like(start[:, 0])
    is_span = (spans >= 0).all(dim=-1)
    is_empty = ~is_span.any(dim=-1, keepdim=True)  # nothing but -inf would have a nan gradient
    places = spans.clamp(min=0)
    one = start.log_softmax(dim=-1).gather(-1, places[..., 0]) + end.log_softmax(dim=-1).gather(-1, places[..., 1])
    one = one.masked_fill(~is_span, -torch.inf).masked_fill(is_empty, 0.0)
    return one.logsumexp(dim=-1).masked_fill(is_empty.squeeze(-1), 0.0)


def _spans(encoded: EncodedPassage, passage: Passage, answers: Sequence[str]) -> list[tuple[int, int]]:
    places = answer_places(passage.text, answers)
    found = token_spans(places, encoded.offsets)
    return [(encoded.text_at + first, encoded.text_at + last) for first, last in found]


def _checked(questions: Sequence[str], passages: Sequence[Sequence[Passage]], answers: Answers) -> list[Sequence[str]]:
    if not len(questions) == len(passages) == len(answers):
        raise InputError(
            f"{len(questions)} questions with {len(passages)} lists of passages and {len(answers)} answers; "
            "give each question one of each"
        )
    wanted: list[Sequence[str]] = [[answer] if isinstance(answer, str) else answer for answer in answers]
    for question, line in zip(questions, wanted, strict=True):
        if not any(token_line(answer) for answer in line):
            raise InputError(f"the answer {line} of {question!r} has no letter, digit or sign; leave the question out")
    return wanted
