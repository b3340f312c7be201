"""Questions from raw passages: what is hidden, what is asked, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragkit.corpus import write_store
from ragkit.errors import ConfigError, InputError
from ragkit.training.pretext import PretextOptions, pretext_examples, salient_spans
from ragkit.types import Passage

PASSAGES = [
    Passage("a", "The old king Karl of Baden died on 3 May 1746. He had 12,500 soldiers near Mannheim.", "Karl"),
    Passage("b", "Nothing here is said of anybody. It rains all day.", "Weather"),
    Passage("c", "In 1905 Albert Einstein lived in Bern, and wrote four papers about light and time.", ""),
]


@pytest.fixture
def store(tmp_path: Path):
    return write_store(PASSAGES, tmp_path / "corpus")


def test_only_salient_spans_are_hidden_and_the_target_is_exact(store):
    """Property 9: putting the answer back for the mask gives words of the passage, and it is a name, date or number."""
    for seed in range(8):
        for example in pretext_examples(store, PretextOptions(seed=seed, words=200)):
            passage = next(p for p in PASSAGES if p.id == example.id)
            assert example.question.count("[MASK]") == 1
            back = example.question.replace("[MASK]", example.answers[0])
            assert back.replace(" ", "") == passage.text.replace(" ", "")
            spans = {passage.text[begin:end] for begin, end in salient_spans(passage.text)}
            assert example.answers[0] in spans
    assert {example.id for example in pretext_examples(store, PretextOptions())} == {"a", "c"}  # b has nothing salient


def test_names_dates_and_numbers_are_salient_and_the_first_word_of_a_sentence_is_not():
    text = PASSAGES[0].text
    assert [text[a:b] for a, b in salient_spans(text)] == ["Karl of Baden", "3 May 1746", "12,500", "Mannheim"]
    assert salient_spans(PASSAGES[1].text) == []


def test_a_short_question_keeps_its_mask(store):
    """Guards a limit that cuts the question's end, and with it what is asked."""
    for seed in range(8):
        for example in pretext_examples(store, PretextOptions(seed=seed, words=4)):
            assert "[MASK]" in example.question
            assert len(example.question.split()) <= 6


def test_span_corruption_lists_what_each_sentinel_hides(store):
    """Question and answer together must give the passage back, in order."""
    for seed in range(8):
        for example in pretext_examples(store, PretextOptions(kind="span", words=200, density=0.3, seed=seed)):
            passage = next(p for p in PASSAGES if p.id == example.id)
            hidden: dict[str, list[str]] = {}
            for word in example.answers[0].split():
                if word.startswith("<extra_id_"):
                    sentinel = word
                    hidden[sentinel] = []
                else:
                    hidden[sentinel].append(word)
            words = [w for word in example.question.split() for w in hidden.get(word, [word])]
            assert words == passage.text.split()
            assert 1 <= sum(map(len, hidden.values())) < len(words)


def test_title_asks_for_the_text_and_passages_without_title_are_left_out(store):
    found = pretext_examples(store, PretextOptions(kind="title", words=4))
    assert [(example.question, example.answers) for example in found] == [
        ("Karl", ("The old king Karl",)),
        ("Weather", ("Nothing here is said",)),
    ]


def test_the_same_seed_asks_the_same_and_a_count_is_kept(store):
    assert pretext_examples(store, PretextOptions(seed=3)) == pretext_examples(store, PretextOptions(seed=3))
    assert len(pretext_examples(store, PretextOptions(kind="span", count=2))) == 2
    with pytest.raises(ConfigError, match="density must be between"):
        PretextOptions(density=1.0)


def test_a_corpus_with_nothing_to_ask_for_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="none of 1 passages"):
        pretext_examples(write_store(PASSAGES[1:2], tmp_path / "one"), PretextOptions())
