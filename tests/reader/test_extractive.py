"""The extractive reader answers from the passage it selects, whatever the batches."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ragkit.errors import ConfigError, InputError
from ragkit.reader import ExtractiveReader, InputOptions, Reader
from ragkit.types import Passage, ScoredPassage

PASSAGES = [
    Passage("1", "Hamlet is an old play by William Shakespeare", "Hamlet"),
    Passage("2", "Rome was the old city in Italy"),
    Passage("3", "Paris is in France, the score was 23–16.", "Paris"),
    Passage("4", "the poet Röntgen wrote in 1603", "Poet"),
]
QUESTION = "who wrote hamlet"


def _hits(*passages: Passage) -> list[ScoredPassage]:
    return [ScoredPassage(passage, 1.0 / (1 + row)) for row, passage in enumerate(passages)]


def test_a_reader_is_a_reader(reader: ExtractiveReader):
    assert isinstance(reader, Reader)


def test_the_answer_comes_from_the_selected_passage_even_if_another_has_the_better_span(reader: ExtractiveReader):
    """Guards against one argmax over all spans of all passages."""
    (readings,) = reader.read([QUESTION], [PASSAGES])
    best_span = max(range(4), key=lambda row: readings[row].answers[0].span.score)
    chosen = []
    for pick in (max, min):  # the second time with the selection head turned round
        selected = pick(range(4), key=lambda row: readings[row].relevance)
        (prediction,) = reader.answer([QUESTION], [_hits(*PASSAGES)])
        assert prediction.evidence[0].passage == PASSAGES[selected]
        assert prediction.text == readings[selected].answers[0].text
        chosen.append(selected)
        with torch.no_grad():
            reader.selection.weight.neg_()
    assert any(selected != best_span for selected in chosen)  # the control: the better span did lie elsewhere


def test_contributions_are_the_softmax_of_relevance_largest_first(reader: ExtractiveReader):
    (readings,) = reader.read([QUESTION], [PASSAGES])
    (prediction,) = reader.answer([QUESTION], [_hits(*PASSAGES)])
    shares = np.exp([reading.relevance for reading in readings])
    wanted = sorted(shares / shares.sum(), reverse=True)
    assert [evidence.contribution for evidence in prediction.evidence] == pytest.approx(wanted, abs=1e-6)
    by_id = {hit.passage.id: hit.score for hit in _hits(*PASSAGES)}
    assert all(evidence.retriever_score == by_id[evidence.passage.id] for evidence in prediction.evidence)


def test_the_score_is_the_log_probability_of_passage_start_and_end(reader: ExtractiveReader):
    """Guards against logits reported as a confidence: they are not comparable between questions."""
    encoded = reader.inputs.pairs(reader.inputs.questions([QUESTION] * 4).ids, PASSAGES)
    batch = reader.inputs.batch([encoded])
    with torch.inference_mode():
        start, end, selection = reader(batch.ids, batch.mask, batch.segments)
    (prediction,) = reader.answer([QUESTION], [_hits(*PASSAGES)])
    row = int(selection[0].argmax())
    (readings,) = reader.read([QUESTION], [PASSAGES])
    span = readings[row].answers[0].span
    raw = [
        start[0, row].log_softmax(-1)[encoded[row].text_at :],
        end[0, row].log_softmax(-1)[encoded[row].text_at :],
    ]
    words = encoded[row].words  # the score is that of the span before it grew to whole words
    inside = [i for i in range(len(words)) if span.start <= i <= span.end]
    best = max(float(raw[0][s] + raw[1][e]) for s in inside for e in inside if e >= s)
    assert prediction.score == pytest.approx(float(selection[0].log_softmax(-1)[row]) + best, abs=1e-4)
    assert prediction.score < 0


def test_batch_size_order_and_company_do_not_change_an_answer(reader: ExtractiveReader):
    """Guards against padding that is attended to, and against results given back in the order of length."""
    questions = [QUESTION, "where is rome", "when did william write"]
    lists = [_hits(*PASSAGES), _hits(*PASSAGES[::-1]), _hits(PASSAGES[1])]
    together = reader.answer(questions, lists)
    reader.batch_tokens = 1  # one passage at a time
    alone = [reader.answer([question], [hits])[0] for question, hits in zip(questions, lists, strict=True)]
    assert [one.text for one in together] == [one.text for one in alone]
    assert [one.score for one in together] == pytest.approx([one.score for one in alone], abs=1e-4)
    assert len({one.text for one in together}) > 1  # the control: the questions do have different answers


def test_the_text_is_the_passages_own_characters(reader: ExtractiveReader):
    """Guards against detokenised answers ("rontgen", "23 – 16")."""
    for passage in PASSAGES:
        (prediction,) = reader.answer([QUESTION], [_hits(passage)])
        assert prediction.text
        assert prediction.text in passage.text


def _love(reader: ExtractiveReader, passage: Passage, question: str, tokens: slice) -> int:
    """Set the span heads to 10 at some tokens of the input and 0 at the others; where the text starts."""
    (encoded,) = reader.inputs.pairs(reader.inputs.questions([question]).ids, [passage])
    batch = reader.inputs.batch([[encoded]])
    wanted = torch.zeros(len(encoded.ids), dtype=torch.float64)
    wanted[tokens] = 10.0
    with torch.no_grad():
        states = reader.model.base_model(
            input_ids=batch.ids[0], attention_mask=batch.mask[0].long(), token_type_ids=batch.segments[0]
        ).last_hidden_state[0]
        head = torch.linalg.lstsq(states.double(), wanted, driver="gelsd").solution
        reader.model.qa_outputs.weight.copy_(head.expand(2, -1))
        reader.model.qa_outputs.bias.zero_()
        scores = reader(batch.ids, batch.mask, batch.segments)
    for logits in (scores.start, scores.end):  # the control: without a limit to the text it would be the answer
        assert int(logits[0, 0].argmax()) in range(len(encoded.ids))[tokens]
    return encoded.text_at


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ("CLS", slice(0, 1)),
        ("question", slice(1, 4)),
        ("SEP", slice(4, 5)),
        ("title", slice(5, 6)),
        ("end", slice(-1, None)),
    ],
)
def test_no_answer_lies_in_the_question_the_title_or_a_separator(reader: ExtractiveReader, part: str, tokens: slice):
    """Guards against an argmax over the whole input: question and title are what heads like best early on."""
    passage, question = Passage("1", "William wrote Hamlet in 1603", "Paris"), "where is rome"
    text_at = _love(reader, passage, question, tokens)
    assert text_at == 7, part
    ((reading,),) = reader.read([question], [[passage]], limit=10)
    assert reading.answers
    for answer in reading.answers:
        assert answer.text in passage.text
        assert answer.text
        assert answer.span.score < 10  # of the loved tokens it would be 20
    (prediction,) = reader.answer([question], [_hits(passage)])
    assert prediction.text == reading.answers[0].text


def test_no_questions_have_no_answers(reader: ExtractiveReader):
    assert reader.answer([], []) == []
    assert reader.read([], []) == []


def test_a_question_that_is_no_utf8_is_answered_as_without_the_letter(reader: ExtractiveReader):
    """Guards against a TypeError of the tokenizer: a shell hands such bytes on as lone surrogates."""
    odd = [Passage(p.id, f"\udcff\x00 {p.text}", f"{p.title}\udcff") for p in PASSAGES]
    (plain,) = reader.answer([QUESTION], [_hits(*PASSAGES)])
    (found,) = reader.answer([QUESTION + "\udcff"], [_hits(*odd)])
    assert found.text == plain.text
    assert found.score == pytest.approx(plain.score, abs=1e-4)


@pytest.mark.parametrize("hits", [[], _hits(Passage("1", "")), _hits(Passage("1", " \n"), Passage("2", "", "Rome"))])
def test_nothing_to_read_gives_the_empty_prediction(reader: ExtractiveReader, hits: list[ScoredPassage]):
    (prediction,) = reader.answer([QUESTION], [hits])
    assert prediction.text == ""
    assert prediction.score == -math.inf
    assert [evidence.contribution for evidence in prediction.evidence] == [0.0] * len(hits)


def test_a_passage_without_text_is_never_selected(reader: ExtractiveReader):
    (prediction,) = reader.answer([QUESTION], [_hits(Passage("0", ""), PASSAGES[0], Passage("9", ""))])
    assert prediction.evidence[0].passage == PASSAGES[0]
    assert [evidence.contribution for evidence in prediction.evidence] == [1.0, 0.0, 0.0]


def test_a_cut_question_is_reported_once_for_all_its_passages(
    reader: ExtractiveReader, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING, logger="ragkit.reader"):
        reader.answer(["who " * 30, QUESTION], [_hits(*PASSAGES), _hits(*PASSAGES)])
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 2 questions have more than 10 tokens and were cut at their end"
    ]


def test_lists_of_another_length_are_refused(reader: ExtractiveReader):
    with pytest.raises(InputError, match="2 questions with 1 lists"):
        reader.answer(["a", "b"], [_hits(*PASSAGES)])


def test_answering_leaves_the_mode_of_training_as_it_was(reader: ExtractiveReader):
    """Guards against an evaluation in the middle of training that switches dropout off for the rest."""
    reader.train()
    first = reader.answer([QUESTION], [_hits(*PASSAGES)])
    assert reader.training
    assert reader.answer([QUESTION], [_hits(*PASSAGES)]) == first  # dropout is off while answering


def test_missing_passages_are_minus_infinity_and_do_not_touch_the_others(reader: ExtractiveReader):
    ids = reader.inputs.questions([QUESTION]).ids
    lines = [reader.inputs.pairs(ids * 3, PASSAGES[:3]), reader.inputs.pairs(ids, PASSAGES[:1])]
    batch = reader.inputs.batch(lines)
    scores = reader(batch.ids, batch.mask, batch.segments)
    assert scores.selection[1, 1:].tolist() == [-math.inf, -math.inf]
    torch.testing.assert_close(scores.selection[0, 0], scores.selection[1, 0])
    assert torch.isneginf(scores.start[~batch.mask]).all()
    assert torch.isfinite(scores.start[batch.mask]).all()


def test_a_model_with_too_few_positions_is_refused(encoder_folder: Path):
    with pytest.raises(ConfigError, match="max_length 200 is more than the 128 tokens"):
        ExtractiveReader.from_pretrained(str(encoder_folder), options=InputOptions(max_length=200), device="cpu")
