"""The extractive reader's likelihood of an answer: of the places where it stands."""

from __future__ import annotations

import pytest
import torch

from ragkit.errors import ConfigError, InputError
from ragkit.reader import ExtractiveReader
from ragkit.reader.protocol import AttendingReader, ScoringReader
from ragkit.reader.span_likelihood import NO_SPAN
from ragkit.types import Passage

QUESTION = "who wrote hamlet"
PASSAGES = [
    Passage("0", "the play hamlet was by shakespeare a poet"),
    Passage("1", "rome was a city in italy", "rome"),
    Passage("2", "shakespeare shakespeare in 1603"),
]


def _alone(reader: ExtractiveReader, answers, passages=None):
    return reader.log_likelihood([QUESTION], [passages or PASSAGES], answers, given="alone").sums[0]


def _by_hand(reader: ExtractiveReader, passage: Passage, spans: list[tuple[int, int]]) -> tuple[float, float]:
    """log sum P(start) P(end) over spans of text tokens, and the selection logit, from the reader's own logits."""
    (encoded,) = reader.inputs.pairs(reader.inputs.questions([QUESTION]).ids, [passage])
    batch = reader.inputs.batch([[encoded]])
    with torch.no_grad():
        scores = reader(batch.ids, batch.mask, batch.segments)
    start, end = scores.start[0, 0].softmax(-1), scores.end[0, 0].softmax(-1)
    found = sum(float(start[encoded.text_at + a] * end[encoded.text_at + b]) for a, b in spans)
    return float(torch.tensor(found).log()), float(scores.selection[0, 0])


def test_the_reader_scores_answers_and_has_no_attention_to_read(reader: ExtractiveReader):
    assert isinstance(reader, ScoringReader)
    assert not isinstance(reader, AttendingReader)


def test_alone_is_the_probability_of_all_places_of_the_answer(reader: ExtractiveReader):
    """Guards spans counted from the question's first token, and the first place taken for all of them."""
    found = _alone(reader, ["Shakespeare"])
    # "shakespeare" is three pieces: tokens 5..7 of the first text; 0..2 and 3..5 of the last
    first, _ = _by_hand(reader, PASSAGES[0], [(5, 7)])
    last, _ = _by_hand(reader, PASSAGES[2], [(0, 2), (3, 5)])
    wanted = torch.tensor([max(first, NO_SPAN), NO_SPAN, max(last, NO_SPAN)])
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert max(first, last) > NO_SPAN + 0.1  # the control: not everything is at the floor


def test_alone_reads_only_passages_in_which_the_answer_stands(reader: ExtractiveReader, monkeypatch):
    """Most hits of a weak retriever do not hold the answer: to read them costs time and gives the floor."""
    read: list[int] = []
    forward = reader.forward

    def counted(ids, mask, segments):
        read.append(ids.shape[1])
        return forward(ids, mask, segments)

    monkeypatch.setattr(reader, "forward", counted)
    found = _alone(reader, ["rome"])
    assert sum(read) == 1
    assert found[0] == found[2] == pytest.approx(NO_SPAN)
    read.clear()
    reader.log_likelihood([QUESTION], [PASSAGES], ["rome"], given="leave_one_out")
    assert sum(read) == 3  # the control: relevance is that of all passages
    read.clear()
    nowhere = _alone(reader, ["lear"])
    assert read == []
    assert nowhere.tolist() == pytest.approx([NO_SPAN] * 3)


def test_joint_weighs_each_passage_by_its_selection_and_leave_one_out_does_without_it(reader: ExtractiveReader):
    """Guards a softmax over the passages that still counts the one that was left out."""
    spans = _alone(reader, ["shakespeare"]).double()
    selection = torch.tensor([_by_hand(reader, passage, [(0, 0)])[1] for passage in PASSAGES]).double()

    def mixture(rows: list[int]) -> float:
        return float((selection[rows].softmax(-1) * spans[rows].exp()).sum().log())

    joint = reader.log_likelihood([QUESTION], [PASSAGES], ["shakespeare"]).sums
    assert joint.shape == (1, 1)
    assert joint.item() == pytest.approx(mixture([0, 1, 2]), abs=1e-4)
    without = reader.log_likelihood([QUESTION], [PASSAGES], ["shakespeare"], given="leave_one_out").sums[0]
    wanted = [mixture([1, 2]), mixture([0, 2]), mixture([0, 1])]
    assert without.tolist() == pytest.approx(wanted, abs=1e-4)
    for row in range(3):  # leaving out is reading the others
        others = [passage for number, passage in enumerate(PASSAGES) if number != row]
        alone = reader.log_likelihood([QUESTION], [others], ["shakespeare"]).sums.item()
        assert alone == pytest.approx(without[row].item(), abs=1e-4)


def test_any_of_several_answers_counts_and_the_order_of_passages_does_not(reader: ExtractiveReader):
    one = _alone(reader, ["shakespeare"])
    two = _alone(reader, [["rome", "shakespeare"]])
    assert two[1] > NO_SPAN
    torch.testing.assert_close(two[[0, 2]], one[[0, 2]])
    torch.testing.assert_close(_alone(reader, ["shakespeare"], PASSAGES[::-1]), one.flip(0))


def test_questions_with_few_or_no_passages_have_a_likelihood_too(reader: ExtractiveReader):
    """A question without passages, or whose only one is left out, has the floor: never nan or -inf."""
    lines = [PASSAGES, PASSAGES[:1], []]
    questions, answers = [QUESTION] * 3, ["shakespeare"] * 3
    alone = reader.log_likelihood(questions, lines, answers, given="alone")
    assert alone.set_mask.tolist() == [[True] * 3, [True, False, False], [False] * 3]
    assert torch.isneginf(alone.sums[2]).all()
    joint = reader.log_likelihood(questions, lines, answers).sums
    assert joint[2].item() == pytest.approx(NO_SPAN)
    without = reader.log_likelihood(questions, lines, answers, given="leave_one_out").sums
    assert without[1, 0].item() == pytest.approx(NO_SPAN)
    blank = reader.log_likelihood([QUESTION], [[Passage("b", "")]], ["shakespeare"]).sums
    assert blank.item() == pytest.approx(NO_SPAN)


def test_training_loss_is_minus_the_joint_likelihood_and_reaches_every_head(reader: ExtractiveReader):
    """It needs no gold passage; a question without the answer anywhere must not make it nan."""
    loss = reader.answer_nll([QUESTION, "where is rome"], [PASSAGES, PASSAGES[:1]], ["shakespeare", "italy"])
    loss.backward()
    for head in (reader.model.qa_outputs.weight, reader.selection.weight):
        assert head.grad is not None
        assert torch.isfinite(head.grad).all()
        assert head.grad.abs().max() > 0
    one = reader.answer_nll([QUESTION], [PASSAGES], ["shakespeare"]).item()
    assert one == pytest.approx(-reader.log_likelihood([QUESTION], [PASSAGES], ["shakespeare"]).sums.item(), abs=0.05)
    with pytest.raises(ConfigError, match="no labels to smooth"):
        reader.answer_nll([QUESTION], [PASSAGES], ["shakespeare"], label_smoothing=0.1)


def test_an_answer_without_letters_is_refused_by_name(reader: ExtractiveReader):
    with pytest.raises(InputError, match="has no letter, digit or sign"):
        _alone(reader, [" \t"])
    with pytest.raises(InputError, match="1 questions with 1 lists of passages and 2 answers"):
        reader.log_likelihood([QUESTION], [PASSAGES], ["a", "b"])


def test_the_mode_is_put_back_and_nothing_has_a_gradient(reader: ExtractiveReader):
    reader.train()
    found = reader.log_likelihood([QUESTION], [PASSAGES], ["shakespeare"])
    assert reader.training
    assert not found.tokens.requires_grad
