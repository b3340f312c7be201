"""Property 2: probabilities of the extractive reader, where its answers may lie, and which passage they come from."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from transformers import BertModel

from ragkit.metrics import has_answer
from ragkit.reader import Answer, ExtractiveReader, InputOptions, Reading, Span, answer_places, best_spans
from ragkit.reader.reading import length_batches, select
from ragkit.types import Passage, ScoredPassage

LOGITS = hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats(-20, 20, width=32))
VOCABULARY = ["who", "wrote", "hamlet", "shakespeare", "Röntgen", "23–16", "rome,", "Italy.", "[SEP]"]
WORDS = st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join)


@pytest.fixture(scope="module")
def reader(root: Path, tmp_path_factory: pytest.TempPathFactory) -> ExtractiveReader:
    """The tiny reader of tests/reader."""
    spec = importlib.util.spec_from_file_location("tiny_reader", root / "tests" / "reader" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    parts: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parts)
    folder, tokenizer = tmp_path_factory.mktemp("encoder"), parts.tiny_tokenizer()
    BertModel(parts.tiny_config(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    options = InputOptions(max_length=40, max_question=8, max_title=6)
    return ExtractiveReader.from_pretrained(str(folder), options=options, device="cpu", dtype="float32")


PASSAGES = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4)
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(question=WORDS, texts=PASSAGES)
def test_start_end_and_selection_are_distributions(
    reader: ExtractiveReader, question: str, texts: list[tuple[str, str]]
):
    """Over the tokens of each passage, over the passages of each question; padding and missing passages have none."""
    passages = [Passage(str(row), text, title) for row, (text, title) in enumerate(texts)]
    ids = reader.inputs.questions([question]).ids
    batch = reader.inputs.batch(
        [reader.inputs.pairs(ids * len(passages), passages), reader.inputs.pairs(ids, passages[:1])]
    )
    with torch.inference_mode():
        scores = reader(batch.ids, batch.mask, batch.segments)
    there = batch.mask.any(-1)
    for logits in (scores.start, scores.end):
        probabilities = logits[there].softmax(-1)
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(int(there.sum())))
        assert probabilities[~batch.mask[there]].abs().sum() == 0
    torch.testing.assert_close(scores.selection.softmax(-1).sum(-1), torch.ones(2))
    assert scores.selection.softmax(-1)[~there].abs().sum() == 0


@few
@given(question=WORDS, texts=PASSAGES)
def test_every_answer_is_cut_from_the_text_of_the_passage_it_names(
    reader: ExtractiveReader, question: str, texts: list[tuple[str, str]]
):
    hits = [ScoredPassage(Passage(str(row), text, title), float(-row)) for row, (text, title) in enumerate(texts)]
    (prediction,) = reader.answer([question], [hits])
    has_text = any(text for text, _ in texts)
    assert bool(prediction.text) is has_text
    assert prediction.text in prediction.evidence[0].passage.text
    shares = [evidence.contribution for evidence in prediction.evidence]
    assert math.isclose(sum(shares), 1.0 if has_text else 0.0, abs_tol=1e-6)
    assert shares == sorted(shares, reverse=True)


class _EarlyTokens(torch.nn.Module):
    """Span heads that like a token the better the earlier it stands: [CLS] first, then the question."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        rank = torch.arange(states.shape[-2], dtype=states.dtype)
        return (-rank)[None, :, None].expand(*states.shape[:-1], 2)


@few
@given(question=WORDS, texts=PASSAGES)
def test_heads_that_like_question_and_title_best_still_answer_from_the_text(
    reader: ExtractiveReader, question: str, texts: list[tuple[str, str]]
):
    """The control of the property above, whose random heads may never have wanted anything but the text."""
    passages = [Passage(str(row), text, title) for row, (text, title) in enumerate(texts)]
    inputs = reader.inputs.pairs(reader.inputs.questions([question]).ids * len(passages), passages)
    own, reader.model.qa_outputs = reader.model.qa_outputs, _EarlyTokens()
    try:
        batch = reader.inputs.batch([inputs])
        with torch.inference_mode():
            start = reader(batch.ids, batch.mask, batch.segments).start[0]
        (readings,) = reader.read([question], [passages])
    finally:
        reader.model.qa_outputs = own
    assert all(int(logits.argmax()) < one.text_at for logits, one in zip(start, inputs, strict=True))
    for passage, reading, one in zip(passages, readings, inputs, strict=True):
        assert bool(reading.answers) is bool(passage.text)
        for answer in reading.answers:
            assert passage.text.startswith(answer.text)
            assert answer.span.score == -2 * one.text_at  # start and end are the text's first token, no earlier one


@given(start=LOGITS, data=st.data())
def test_the_best_span_is_that_of_a_search_over_all_pairs(start: np.ndarray, data: st.DataObject):
    n = len(start)
    end = data.draw(hnp.arrays(np.float64, n, elements=st.floats(-20, 20, width=32)))
    words = np.sort(data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, 20))))
    spans = best_spans(start, end, words=words, max_tokens=10, limit=5)
    pairs = [(s, e) for s in range(n) for e in range(s, min(s + 10, n))]
    assert bool(spans) is bool(pairs)
    if pairs:
        assert spans[0].score == max(start[s] + end[e] for s, e in pairs)
    for row, span in enumerate(spans):
        assert 0 <= span.start <= span.end < n
        assert span.start == 0 or words[span.start - 1] != words[span.start]
        assert span.end == n - 1 or words[span.end + 1] != words[span.end]
        for other in spans[:row]:
            assert not (other.start <= span.start and span.end <= other.end)
            assert not (span.start <= other.start and other.end <= span.end)
            assert other.score >= span.score


@given(st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 0)), min_size=1, max_size=6))
def test_the_answer_is_that_of_the_most_relevant_passage_however_good_the_others_are(found: list[tuple[float, float]]):
    readings = [
        Reading(relevance, (Answer(f"answer {row}", Span(0, 0, 0.0), log_probability),))
        for row, (relevance, log_probability) in enumerate(found)
    ]
    hits = [ScoredPassage(Passage(str(row), "text"), 0.0) for row in range(len(found))]
    prediction = select(readings, hits)
    best = max(range(len(found)), key=lambda row: (found[row][0], -row))
    assert prediction.text == f"answer {best}"
    assert prediction.evidence[0].passage.id == str(best)
    assert prediction.score <= 1e-9


def test_a_better_span_elsewhere_changes_nothing_and_a_more_relevant_passage_does():
    """The control of the property above, by hand."""

    def reading(relevance: float, log_probability: float, text: str) -> Reading:
        return Reading(relevance, (Answer(text, Span(0, 0, 0.0), log_probability),))

    hits = [ScoredPassage(Passage(str(row), "text"), 0.0) for row in range(2)]
    assert select([reading(1.0, -9.0, "a"), reading(0.0, -0.1, "b")], hits).text == "a"
    changed = select([reading(1.0, -9.0, "a"), reading(2.0, -0.1, "b")], hits)
    assert changed.text == "b"
    assert changed.score == pytest.approx(-0.1 - math.log(1 + math.exp(-1.0)))


@given(
    text=st.text(alphabet="ab Aé.–' \u0301the", max_size=30), answer=st.text(alphabet="ab Aé.–' \u0301the", max_size=5)
)
def test_a_place_is_found_wherever_the_matcher_finds_an_answer(text: str, answer: str):
    """Guards against examples dropped although has_answer, and with it hit@k, counts them."""
    places = answer_places(text, [answer])
    if has_answer(text, [answer]):
        assert places
        assert all(has_answer(text[begin:end], [answer]) for begin, end in places)
    assert all(0 <= begin < end <= len(text) for begin, end in places)


@given(lengths=st.lists(st.integers(1, 50), max_size=30), budget=st.integers(1, 200))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int):
    batches = list(length_batches(lengths, budget=budget))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget for batch in batches)
