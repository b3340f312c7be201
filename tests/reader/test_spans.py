"""Which spans a reader may choose, and where an answer's characters lie in tokens."""

from __future__ import annotations

import numpy as np
import pytest

from ragkit.reader.spans import Span, best_spans, cut, token_spans


def _logits(n: int, **high: float) -> np.ndarray:
    out = np.zeros(n)
    for name, value in high.items():
        out[int(name[1:])] = value
    return out


def test_an_end_before_its_start_is_never_chosen():
    """Guards against picking the two maxima separately, which gives reversed spans."""
    spans = best_spans(_logits(6, t4=9.0), _logits(6, t1=9.0), words=np.arange(6), limit=6)
    assert all(span.start <= span.end for span in spans)
    assert (spans[0].start, spans[0].end) in {(4, 4), (0, 1)}
    assert spans[0].score == 9.0


@pytest.mark.parametrize(("distance", "is_found"), [(9, True), (10, False)])
def test_a_span_has_at_most_ten_tokens(distance: int, is_found: bool):
    spans = best_spans(_logits(20, t3=5.0), _logits(20, **{f"t{3 + distance}": 5.0}), words=np.arange(20), limit=1)
    assert (spans[0].score == 10.0) is is_found


def test_nested_spans_are_skipped_and_overlapping_ones_kept():
    start, end = np.array([4.0, 3.0, 0.0, 0.0]), np.array([0.0, 3.0, 2.9, 0.0])
    found = [(span.start, span.end) for span in best_spans(start, end, words=np.arange(4), limit=10)]
    assert found[:2] == [(0, 1), (1, 2)]  # (0, 2) scores 6.9 and contains (0, 1); (1, 1) scores 6.0 and lies in it
    assert (0, 2) not in found
    assert (1, 1) not in found


def test_a_span_is_extended_to_the_whole_words_it_touches():
    words = np.array([0, 1, 1, 1, 2])
    found = best_spans(_logits(5, t2=5.0), _logits(5, t2=5.0), words=words)
    assert [(span.start, span.end, span.score) for span in found] == [(1, 3, 10.0), (0, 0, 0.0), (4, 4, 0.0)]


def test_no_token_gives_no_span():
    assert best_spans(np.zeros(0), np.zeros(0), words=np.zeros(0, dtype=np.int64)) == []


def test_as_many_spans_as_asked_for_in_order_of_score():
    generator = np.random.default_rng(0)
    start, end = generator.normal(size=30), generator.normal(size=30)
    spans = best_spans(start, end, words=np.arange(30), limit=10)
    assert len(spans) == 10
    assert [span.score for span in spans] == sorted((span.score for span in spans), reverse=True)
    brute = max(start[s] + end[e] for s in range(30) for e in range(s, min(s + 10, 30)))
    assert spans[0].score == pytest.approx(brute)


OFFSETS = np.array([[0, 2], [2, 4], [5, 9], [9, 10], [11, 13]])


def test_characters_become_the_tokens_that_touch_them():
    assert token_spans([(0, 4), (5, 9), (6, 8)], OFFSETS) == [(0, 1), (2, 2)]


def test_a_place_that_the_tokens_do_not_reach_has_no_span():
    """Guards against training on half an answer that the length limit has cut."""
    assert token_spans([(11, 16), (20, 24)], OFFSETS) == []


def test_at_most_the_first_ten_places_are_kept():
    offsets = np.array([[2 * i, 2 * i + 1] for i in range(15)])
    places = [(2 * i, 2 * i + 1) for i in range(15)]
    assert token_spans(places, offsets) == [(i, i) for i in range(10)]
    assert len(token_spans(places, offsets, limit=15)) == 15


def test_the_cut_text_is_the_passages_own():
    assert cut("abcd éfgh.", OFFSETS, Span(2, 2, 0.0)) == "éfgh"
    assert cut("ab  cdefghij", np.array([[0, 3]]), Span(0, 0, 0.0)) == "ab"
