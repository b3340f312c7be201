"""Which examples a run of answers alone is taught on."""

from __future__ import annotations

import pytest

from ragkit.errors import ConfigError, InputError
from ragkit.training.teaching import TeachingOptions, drawn_answers, taught_examples
from ragkit.types import Example

EXAMPLES = [Example(str(number), f"q{number}", (f"a{number}", f"b{number}")) for number in range(20)]


def test_examples_without_an_answer_are_dropped_and_counted():
    """An answer of no letters would match every passage, or stop a run in its thousandth step."""
    odd = [
        Example("x", "q", ()),
        Example("y", "q", (" ", "\t")),
        Example("z", "q", (" ", "yes")),
        Example("t", "q", (), target="no"),
    ]
    found, dropped = taught_examples(odd, TeachingOptions())
    assert [example.answers for example in found] == [("yes",), ("no",)]
    assert dropped == 2
    with pytest.raises(InputError, match="none of the 2"):
        taught_examples(odd[:2], TeachingOptions())


def test_few_shot_keeps_the_same_examples_for_a_seed():
    """Those that were not drawn have an answer all the same: they are not counted as dropped for want of one."""
    few, dropped = taught_examples([*EXAMPLES, Example("x", "q", ())], TeachingOptions(few_shot=5))
    assert dropped == 1
    assert len({example.id for example in few}) == 5
    assert few == taught_examples(EXAMPLES, TeachingOptions(few_shot=5))[0]
    assert few != taught_examples(EXAMPLES, TeachingOptions(few_shot=5, seed=1))[0]
    with pytest.raises(InputError, match="only 20"):
        taught_examples(EXAMPLES, TeachingOptions(few_shot=21))
    with pytest.raises(ConfigError, match="few_shot must be 1"):
        TeachingOptions(few_shot=0)


def test_shuffling_gives_every_question_the_answers_of_another():
    """The control is none if some questions keep their answer."""
    found = taught_examples(EXAMPLES, TeachingOptions(shuffle_answers=True))[0]
    assert [example.question for example in found] == [example.question for example in EXAMPLES]
    assert all(example.answers != before.answers for example, before in zip(found, EXAMPLES, strict=True))
    assert sorted(example.answers for example in found) == sorted(example.answers for example in EXAMPLES)


def test_answer_is_drawn_by_seed_and_question_and_a_files_target_is_taken_as_it_is():
    drawn = drawn_answers(EXAMPLES, seed=3)
    assert drawn == drawn_answers(EXAMPLES[:7], seed=3) + drawn_answers(EXAMPLES[7:], seed=3)
    assert {answer[0] for answer in drawn} == {"a", "b"}
    assert drawn_answers([Example("t", "q", ("a",), target="b")], seed=0) == ["b"]
