"""Which passages a question trains on."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from ragkit.errors import ConfigError, InputError
from ragkit.reader import InputEncoder, InputOptions
from ragkit.training.reading import ReadingOptions, answer_spans, reading_items, unique
from ragkit.types import Example, Passage, ScoredPassage


@pytest.fixture
def inputs(model_dir: Path) -> InputEncoder:
    return InputEncoder(
        AutoTokenizer.from_pretrained(model_dir), InputOptions(max_length=32, max_question=8, max_title=4)
    )


def _example(*, positives: str = "", negatives: str = "", retrieved: str = "", answers: str = "gold") -> Example:
    """Passages are separated by "|", title and text by ":"."""

    def passages(text: str) -> list[Passage]:
        parts = [part.strip().partition(":") for part in text.split("|") if part.strip()]
        return [Passage(f"{title}/{body}", body.strip(), title.strip()) for title, _, body in parts]

    hits = [ScoredPassage(passage, 1.0) for passage in passages(retrieved)]
    return Example(
        "1", "where", tuple(answers.split("|")), tuple(passages(positives)), tuple(passages(negatives)), tuple(hits)
    )


def _texts(passages: tuple[Passage, ...]) -> list[str]:
    return [passage.text for passage in passages]


def test_gold_passages_are_joined_by_retrieved_ones_of_the_same_title(inputs: InputEncoder):
    """Guards against a passage that has the answer by chance taken for a positive although a gold one is known."""
    example = _example(positives="A: old gold", retrieved="B: gold ship | A: red gold | A: red ship")
    (item,), counts = reading_items([example], inputs, options=ReadingOptions())
    assert _texts(item.positives) == ["old gold", "red gold"]
    assert _texts(item.negatives) == ["red ship"]
    assert counts.distant == 0


def test_without_a_gold_span_any_retrieved_passage_with_an_answer_will_do(inputs: InputEncoder):
    examples = [
        _example(retrieved="B: gold ship | C: the moon | D: old gold"),
        _example(positives="A: no", retrieved="B: gold"),
    ]
    items, counts = reading_items(examples, inputs, options=ReadingOptions())
    assert [_texts(item.positives) for item in items] == [["gold ship", "old gold"], ["gold"]]
    assert counts.distant == 2


def test_a_negative_never_contains_an_answer(inputs: InputEncoder):
    """Guards against training the selection head against a passage that answers."""
    example = _example(positives="A: gold", negatives="B: the GOLD | C: moon", retrieved="D: gold. | E: ship | C: moon")
    (item,), _ = reading_items([example], inputs, options=ReadingOptions())
    assert _texts(item.negatives) == ["moon", "ship"]


def test_questions_without_a_span_are_dropped_and_counted(inputs: InputEncoder):
    examples = [_example(positives="A: moon"), _example(positives="A: gold"), _example()]
    items, counts = reading_items(examples, inputs, options=ReadingOptions())
    assert len(items) == 1
    assert (counts.kept, counts.dropped, counts.short) == (1, 2, 1)


def test_an_answer_beyond_the_length_limit_is_no_span(inputs: InputEncoder):
    """Guards against a positive whose answer the reader never sees."""
    far = "A: " + "moon " * 40 + "gold"
    items, counts = reading_items(
        [_example(positives=far), _example(positives="A: gold")], inputs, options=ReadingOptions()
    )
    assert counts.dropped == 1
    assert _texts(items[0].positives) == ["gold"]


def test_nothing_to_train_on_says_what_to_give(inputs: InputEncoder):
    with pytest.raises(InputError, match="none of the 1 training questions.*index_dir="):
        reading_items([_example(positives="A: moon")], inputs, options=ReadingOptions())


def test_spans_are_counted_from_the_first_token_of_the_input(inputs: InputEncoder):
    passage = Passage("1", "old gold in the gold ship", "moon")
    spans = answer_spans(passage, _example(answers="gold|gold ship"), inputs=inputs, limit=10)
    (encoded,) = inputs.pairs(inputs.questions(["where"]).ids, [passage])
    words = inputs.tokenizer.convert_ids_to_tokens(encoded.ids.tolist())
    assert [" ".join(words[first : last + 1]) for first, last in spans] == ["gold", "gold", "gold ship"]
    assert len(answer_spans(passage, _example(), inputs=inputs, limit=1)) == 1


def test_repeated_passages_are_kept_once_at_their_first_place():
    a, b, again = Passage("1", "x"), Passage("2", "y"), Passage("3", "x")
    assert unique([a, b, again]) == [a, b]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_passages": 1}, "n_passages must be 2 or more, not 1"),
        ({"n_spans": 0}, "n_spans must be 1 or more"),
        ({"max_positives": 0}, "max_positives must be 1 or more"),
        ({"dev_passages": 0}, "dev_passages must be 1 or more"),
        ({"frozen_layers": -1}, "frozen_layers must be 0 or more, not -1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, float], message: str):
    with pytest.raises(ConfigError, match=message):
        ReadingOptions(**options)
