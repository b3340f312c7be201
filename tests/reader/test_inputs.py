"""The tokens an extractive reader sees."""

from __future__ import annotations

import numpy as np
import pytest

from ragkit.errors import ConfigError
from ragkit.reader import InputEncoder, InputOptions, pad_spans
from ragkit.types import Passage

from .conftest import tiny_tokenizer


@pytest.fixture
def inputs() -> InputEncoder:
    return InputEncoder(tiny_tokenizer(), InputOptions(max_length=24, max_question=6, max_title=4))


def _one(inputs: InputEncoder, question: str, passage: Passage):
    return inputs.pairs(inputs.questions([question]).ids, [passage])[0]


def _words(inputs: InputEncoder, ids: np.ndarray) -> str:
    return " ".join(inputs.tokenizer.convert_ids_to_tokens(ids.tolist()))


def test_question_title_and_text_stand_between_separators(inputs: InputEncoder):
    one = _one(inputs, "who wrote hamlet", Passage("1", "William Shakespeare wrote it", "Hamlet"))
    assert _words(inputs, one.ids) == (
        "[CLS] who wrote hamlet [SEP] hamlet [SEP] william shake ##spe ##are wrote i ##t [SEP]"
    )
    assert (one.second_segment, one.text_at) == (5, 7)
    assert one.words.tolist() == [0, 1, 1, 1, 2, 3, 3]
    assert one.offsets.tolist()[1:4] == [[8, 13], [13, 16], [16, 19]]


def test_a_passage_without_a_title_has_no_empty_slot(inputs: InputEncoder):
    one = _one(inputs, "who", Passage("1", "Rome"))
    assert _words(inputs, one.ids) == "[CLS] who [SEP] rome [SEP]"
    assert one.text_at == one.second_segment == 3


@pytest.mark.parametrize("bad", ["\x00", "\udcff"])
@pytest.mark.parametrize("where", ["question", "title", "text"])
def test_what_no_tokenizer_takes_is_replaced_letter_for_letter(inputs: InputEncoder, bad: str, where: str):
    """Guards against a TypeError for an argument that is not UTF-8, and against answers cut one letter beside."""
    parts = {"question": "who wrote", "title": "hamlet", "text": "rome william"}
    clean = _one(inputs, parts["question"], Passage("1", parts["text"], parts["title"]))
    parts[where] = f"{bad}{parts[where]}{bad}"
    one = _one(inputs, parts["question"], Passage("1", parts["text"], parts["title"]))
    assert one.ids.tolist() == clean.ids.tolist()  # BERT drops U+FFFD
    shift = 1 if where == "text" else 0
    assert [parts["text"][begin:end].strip(bad) for begin, end in one.offsets][0] == "rome"
    assert one.offsets[1:, 0].tolist() == [begin + shift for begin in clean.offsets[1:, 0]]


def test_separators_written_in_a_text_stay_text(inputs: InputEncoder):
    """Guards against a passage that ends itself: what follows its "[SEP]" would be read as another part."""
    one = _one(inputs, "who [SEP]", Passage("1", "old [SEP] rome", "[CLS]"))
    special = [inputs.tokenizer.cls_token_id, inputs.tokenizer.sep_token_id]
    assert np.isin(one.ids, special).sum() == 4  # CLS and three SEP: our own


def test_every_part_is_cut_at_its_end(inputs: InputEncoder):
    one = _one(
        inputs, "who wrote the old play by william in rome", Passage("1", "rome " * 50, "hamlet the play by old")
    )
    assert len(one.ids) == 24
    assert _words(inputs, one.ids).startswith("[CLS] who wrote the old play by [SEP] hamlet the play by [SEP] rome")
    assert one.ids[-1] == inputs.tokenizer.sep_token_id
    assert len(one.offsets) == len(one.words) == 24 - one.text_at - 1


def test_a_cut_question_is_counted_once_and_a_question_at_the_limit_not(inputs: InputEncoder):
    found = inputs.questions(["who wrote the old play by william", "who wrote the old play by", ""])
    assert found.n_cut == 1
    assert [len(ids) for ids in found.ids] == [6, 6, 0]


def test_a_batch_is_padded_and_says_where(inputs: InputEncoder):
    questions = inputs.questions(["who", "where"]).ids
    first = inputs.pairs([questions[0]] * 2, [Passage("1", "rome is old"), Passage("2", "rome")])
    second = inputs.pairs([questions[1]], [Passage("3", "")])
    batch = inputs.batch([first, second])
    assert batch.ids.shape == (2, 2, 7)
    assert batch.mask.sum(-1).tolist() == [[7, 5], [4, 0]]
    assert (batch.ids[~batch.mask] == inputs.tokenizer.pad_token_id).all()
    assert batch.segments[0, 0].tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert batch.segments[0, 1].tolist() == [0, 0, 0, 1, 1, 0, 0]


def test_segments_are_all_zero_where_they_are_off():
    inputs = InputEncoder(tiny_tokenizer(), InputOptions(segments=False))
    assert inputs.batch([[_one(inputs, "who", Passage("1", "rome"))]]).segments.sum() == 0


def test_limits_that_leave_no_room_for_a_passage_are_refused():
    with pytest.raises(ConfigError, match="leaves no room for a passage"):
        InputOptions(max_length=64, max_question=40, max_title=24)


def test_spans_are_padded_with_minus_one():
    assert pad_spans([[(1, 2), (3, 3)], [(0, 0)]]).tolist() == [[[1, 2], [3, 3]], [[0, 0], [-1, -1]]]
