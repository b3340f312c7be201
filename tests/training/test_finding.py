"""The passages of a training batch: widths, what is left out, reranking, the null passage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ragkit.corpus import write_store
from ragkit.errors import ConfigError
from ragkit.training.finding import NULL_PASSAGE, FindingOptions, find_passages
from ragkit.types import Example, Passage, SearchResult

PASSAGES = [Passage(f"p{number}", text) for number, text in enumerate(["fox", "river", "hill", "stone", "dog", "king"])]
ITEMS = [Example("p2", "fox hill", ("x",)), Example("q", "dog", ("y",))]


class Fixed:
    """Finds the same rows in the same order for every query."""

    corpus_digest = ""

    def __init__(self, *lines: list[int]) -> None:
        self.lines, self.asked = lines, 0

    def search(self, queries, *, k: int) -> SearchResult:
        self.asked = k
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        for number, line in enumerate(self.lines[: len(queries)]):
            rows[number, : len(line[:k])] = line[:k]
        return SearchResult(rows, np.where(rows < 0, -np.inf, 0.0).astype(np.float32))


def _ids(found) -> list[list[str]]:
    return [[passage.id for passage in line] for line in found.passages]


@pytest.fixture
def find(tiny, model_dir: Path, tmp_path: Path):
    store, encoder = write_store(PASSAGES, tmp_path / "corpus"), tiny.encoder(model_dir)

    def run(*lines: list[int], **options):
        retriever = Fixed(*lines)
        found = find_passages(retriever, ITEMS, store=store, encoder=encoder, options=FindingOptions(**options))
        return found, retriever.asked

    return run


def test_passages_are_the_hits_in_their_order_and_missing_hits_are_left_out(find):
    found, asked = find([3, 1, 5], [4], k=3)
    assert _ids(found) == [["p3", "p1", "p5"], ["p4"]]
    assert found.rows.tolist() == [[3, 1, 5], [4, -1, -1]]
    assert asked == 3


def test_the_passage_that_a_question_was_made_from_is_left_out_and_k_is_kept(find):
    """Guards the trivial candidate: a masked passage is best predicted from itself, and nothing is learned."""
    found, asked = find([2, 1, 5], [2, 4, 0], k=2, exclude_own=True)
    assert asked == 3
    assert _ids(found) == [["p1", "p5"], ["p2", "p4"]]


def test_searching_wide_keeps_the_best_by_the_present_weights(find, tiny, model_dir: Path):
    found, asked = find([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], k=2, search_k=6)
    assert asked == 6
    encoder = tiny.encoder(model_dir)
    scores = encoder.encode_queries([item.question for item in ITEMS]) @ encoder.encode_passages(PASSAGES).T
    assert found.rows.tolist() == np.argsort(-scores, axis=1)[:, :2].tolist()


def test_the_null_passage_stands_beside_the_k(find):
    found, _ = find([3, 1], [], k=2, null_passage=True)
    assert _ids(found) == [["p3", "p1", ""], [""]]
    assert found.passages[0][2] is NULL_PASSAGE
    assert found.rows.tolist() == [[3, 1, -1], [-1, -1, -1]]


@pytest.mark.parametrize(
    ("options", "message"), [({"k": 1}, "k must be 2"), ({"reader_k": 9}, "reader_k"), ({"search_k": 3}, "search_k")]
)
def test_widths_that_do_not_fit_are_named(options, message: str):
    with pytest.raises(ConfigError, match=message):
        FindingOptions(**options)


def test_an_index_of_fewer_passages_than_k_is_refused():
    """Silent failure: a corpus that shrank gives every question all there is, and nothing is left to choose."""
    FindingOptions(k=6).check(6)
    with pytest.raises(ConfigError, match=r"k=6 passages, and the index has 5; lower task\.options\.finding\.k"):
        FindingOptions(k=6).check(5)
    FindingOptions(k=5, exclude_own=True).check(6)
    with pytest.raises(ConfigError, match="k=5 passages beside a question's own, and the index has 5"):
        FindingOptions(k=5, exclude_own=True).check(5)
