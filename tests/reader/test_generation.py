"""What a reader writes keeps to its options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ragkit.errors import ConfigError, InputError
from ragkit.reader.fid import FusionReader
from ragkit.reader.generation import ChoiceTrie, GenerationOptions
from ragkit.reader.prompts import FusionOptions

from .tiny_models import LINES, ONE_EACH, PASSAGES, QUESTIONS, hits, save_model

SMALL = FusionOptions(max_length=64, max_question=16)
HITS = [hits(*line) for line in LINES]
CHOICES = ("rome", "william shakespeare", "william", "in 1603", "it's 23-16.")


@pytest.fixture(scope="module", params=ONE_EACH)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(request.param, tmp_path_factory.mktemp(request.param))


def open_tiny(folder: Path, options: GenerationOptions, **more: object) -> FusionReader:
    return FusionReader.from_pretrained(
        str(folder), options=SMALL, generation=options, device="cpu", dtype="float32", **more
    )


def test_lengths_stay_within_the_limits(folder: Path):
    with torch.no_grad():
        for least, most in ((3, 3), (2, 5), (0, 1)):
            reader = open_tiny(folder, GenerationOptions(min_tokens=least, max_tokens=most))
            written = reader.decoder.generate(reader.encode(QUESTIONS, LINES), reader.generation)
            assert all(least <= len(ids) <= most for ids in written)
            assert not any(reader.decoder.tokens.end in ids for ids in written)


def test_beams_find_what_is_at_least_as_likely(folder: Path):
    """Guards against options that never reach the search."""
    totals = []
    for beams in (1, 16):
        reader = open_tiny(folder, GenerationOptions(beams=beams, min_tokens=8, max_tokens=8))
        with torch.no_grad():
            memory = reader.encode(QUESTIONS, LINES)
            targets = reader.decoder.targets(reader.decoder.generate(memory, reader.generation))
            totals.append(float(reader.decoder.log_probs(memory, targets)[:, :8].sum()))
    assert totals[1] > totals[0] + 1e-3


def test_the_length_penalty_favours_long_or_short_answers(folder: Path):
    for penalty, wanted in ((20.0, "william shakespeare was in rome"), (-20.0, "a")):
        options = GenerationOptions(beams=2, length_penalty=penalty, choices=("a", "william shakespeare was in rome"))
        assert {one.text for one in open_tiny(folder, options).answer(QUESTIONS, HITS)} == {wanted}


def test_an_answer_of_the_choices_is_the_likeliest_of_them(folder: Path):
    """Guards against a search that cuts a choice short or writes what only begins like one."""
    reader = open_tiny(folder, GenerationOptions(beams=len(CHOICES), choices=CHOICES, length_penalty=0.0))
    found = reader.answer(QUESTIONS, HITS)
    for query, prediction in enumerate(found):
        scores = reader.log_likelihood(
            QUESTIONS[query : query + 1] * len(CHOICES), [LINES[query]] * len(CHOICES), CHOICES
        ).sums[:, 0]
        assert prediction.text == CHOICES[int(scores.argmax())]
        assert prediction.score == pytest.approx(float(scores.max()), abs=1e-3)
    assert {one.text for one in open_tiny(folder, GenerationOptions(choices=CHOICES)).answer(QUESTIONS, HITS)} <= {
        *CHOICES
    }


def test_the_score_is_the_likelihood_of_what_was_written_and_of_the_end(folder: Path):
    reader = open_tiny(folder, GenerationOptions(max_tokens=6))
    with torch.no_grad():
        memory = reader.encode(QUESTIONS, LINES)
        targets = reader.decoder.targets(reader.decoder.generate(memory, reader.generation))
        logits = reader.decoder.logits(memory, targets)
    log_p = logits.log_softmax(-1).gather(-1, targets.ids[..., None])[..., 0]
    wanted = [float(line[mask].sum()) for line, mask in zip(log_p, targets.mask, strict=True)]
    assert [one.score for one in reader.answer(QUESTIONS, HITS)] == pytest.approx(wanted, abs=1e-3)
    assert all(targets.ids[row][targets.mask[row]][-1] == reader.decoder.tokens.end for row in range(3))


def test_without_passages_it_answers_from_the_question_or_not_at_all(folder: Path):
    lines = [HITS[0], [], HITS[1]]
    reader = open_tiny(folder, GenerationOptions(max_tokens=5))
    found = reader.answer(QUESTIONS, lines)
    assert found[1].score > float("-inf")
    assert found[1].evidence == ()
    for explain in ("leave_one_out", "attention"):  # with and without company that has passages
        assert [one.text for one in reader.answer(QUESTIONS, lines, explain=explain)] == [one.text for one in found]
        assert reader.answer(QUESTIONS[1:2], [[]], explain=explain)[0].evidence == ()
    assert reader.attention_mass(QUESTIONS[1:2], [[]], ["rome"]).shape == (1, 0)
    scored = reader.log_likelihood(QUESTIONS[1:2], [[]], ["rome"])
    assert bool(scored.set_mask.all())
    assert torch.isfinite(scored.sums).all()
    assert reader.log_likelihood(QUESTIONS[1:2], [[]], ["rome"], given="alone").sums.shape == (1, 0)
    closed = FusionReader.from_pretrained(
        str(folder), options=replace(SMALL, closed_book=False), generation=reader.generation, device="cpu"
    )
    again = closed.answer(QUESTIONS, lines)
    assert (again[1].text, again[1].score) == ("", float("-inf"))
    assert [again[0].text, again[2].text] == [found[0].text, found[2].text]


def test_only_end_tokens_follow_a_choice():
    trie = ChoiceTrie([[5, 6], [5]], end=1)
    assert trie.allowed([5]) == [1, 6]
    assert trie.allowed([9]) == [1]
    assert [trie.number([5]), trie.number([5, 6])] == [1, 0]
    assert trie.after(2)(0, torch.tensor([0, 3, 5])) == [1, 6]


def test_wrong_options_are_refused(folder: Path):
    with pytest.raises(ConfigError, match="beams is 0"):
        GenerationOptions(beams=0)
    with pytest.raises(ConfigError, match="min_tokens 5 and max_tokens 4"):
        GenerationOptions(min_tokens=5, max_tokens=4)
    with pytest.raises(ConfigError, match="must be a list of texts"):
        GenerationOptions(choices="rome")
    with pytest.raises(ConfigError, match=r"given twice: \['a'\]"):
        GenerationOptions(choices=["a", "a", "b"])
    with pytest.raises(InputError, match="no tokens"):
        open_tiny(folder, GenerationOptions(choices=["rome", ""])).answer(QUESTIONS[:1], [hits(*PASSAGES)])
