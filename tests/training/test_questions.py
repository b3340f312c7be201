"""Questions to train on: what is dropped and counted, what is drawn, and which passages are the same."""

from __future__ import annotations

import pytest
import torch

from ragkit.corpus import write_store
from ragkit.errors import InputError
from ragkit.training.questions import digest, draw_passages, gold_keys, is_gold, passage_keys, usable_questions
from ragkit.types import Example, Passage

POSITIVES = (Passage("1", "one"), Passage("2", "two"))
NEGATIVES = tuple(Passage(f"n{i}", f"no {i}") for i in range(5))


def test_records_without_positives_are_dropped_and_missing_negatives_tolerated():
    """Guards the counts: a file whose questions vanish silently trains on less than the user thinks."""
    examples = [
        Example("a", "q a", ("x",), POSITIVES, NEGATIVES),
        Example("b", "q b", ("x",), (), NEGATIVES),
        Example("c", "q c", ("x",), POSITIVES),
    ]
    kept, counts = usable_questions(examples)
    assert [example.id for example in kept] == ["a", "c"]
    assert (counts.used, counts.without_positive, counts.without_negative, counts.unknown_ids) == (2, 1, 1, 0)
    assert "1 without a positive" in str(counts)


def test_texts_of_passages_given_by_id_come_from_the_store(tmp_path):
    store = write_store([Passage("7", "seven", "T"), Passage("8", "eight")], tmp_path / "store")
    example = Example("a", "q", ("x",), (Passage("7", ""),), (Passage("8", ""), Passage("9", "")))
    kept, counts = usable_questions([example], store=store)
    assert kept[0].positives == (Passage("7", "seven", "T"),)
    assert kept[0].hard_negatives == (Passage("8", "eight"),)
    assert counts.unknown_ids == 1
    with pytest.raises(InputError, match="index_dir=DIR"):
        usable_questions([example])


def test_draws_depend_on_the_seed_and_the_question_and_reach_every_positive():
    """Guards against a draw that follows the batch: two processes would see other passages than one."""
    example = Example("a", "q a", ("x",), POSITIVES, NEGATIVES)
    drawn = [draw_passages(example, negatives=2, draw="random", seed=seed) for seed in range(30)]
    assert drawn == [draw_passages(example, negatives=2, draw="random", seed=seed) for seed in range(30)]
    assert {positive.id for positive, _ in drawn} == {"1", "2"}
    assert {passage.id for _, negatives in drawn for passage in negatives} == {p.id for p in NEGATIVES}
    assert all(len({passage.id for passage in negatives}) == 2 for _, negatives in drawn)
    assert draw_passages(example, negatives=2, draw="first", seed=5) == (POSITIVES[0], list(NEGATIVES[:2]))


def test_gold_is_found_by_id_and_by_text_but_an_empty_id_is_no_id():
    examples = [Example("a", "q", ("x",), (Passage("1", "One  text", "T"),)), Example("b", "q", ("x",), POSITIVES)]
    pool = [Passage("1", "other text"), Passage("5", "one text", "t"), Passage("", "free"), Passage("", "two")]
    found = is_gold(passage_keys(pool), gold_keys(examples))
    assert found.tolist() == [[True, True, False, False], [True, False, False, True]]
    no_ids = is_gold(passage_keys([Passage("", "free")]), gold_keys([Example("a", "q", ("x",), (Passage("", "b"),))]))
    assert no_ids.tolist() == [[False]]


def test_digest_moves_with_the_passages():
    one = [Example("a", "q", ("x",), POSITIVES, NEGATIVES)]
    assert digest(one) == digest(list(one))
    assert digest(one) != digest([Example("a", "q", ("x",), POSITIVES, NEGATIVES[:4])])
    assert torch.equal(passage_keys([]), torch.empty(0, 2, dtype=torch.int64))
