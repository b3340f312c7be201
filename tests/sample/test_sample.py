"""The sample keeps what its README promises: counts, verbatim answers, disjoint splits, honest `semantic` marks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import Stemmer
from bm25s.stopwords import STOPWORDS_EN_PLUS

from ragkit.corpus import load_examples, read_corpus
from ragkit.errors import InputError
from ragkit.metrics import has_answer
from ragkit.sample import SPLITS, held_out_lines, passages_path, questions_path
from ragkit.types import Passage

STEMMER = Stemmer.Stemmer("english")
Record = dict[str, Any]


@pytest.fixture(scope="module")
def passages() -> dict[str, Passage]:
    return {passage.id: passage for passage in read_corpus(passages_path())}


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Record]]:
    return {
        split: [json.loads(line) for line in questions_path(split).read_text("utf-8").splitlines()] for split in SPLITS
    }


@pytest.fixture(scope="module")
def records(splits: dict[str, list[Record]]) -> list[Record]:
    return [record for split in SPLITS for record in splits[split]]


def stems(text: str) -> set[str]:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {STEMMER.stemWord(word) for word in words if word not in STOPWORDS_EN_PLUS}


def shared(record: Record) -> tuple[int, int]:
    """How many content words a question shares with its passage, and how many it has."""
    passage = record["positive_ctxs"][0]
    question = stems(record["question"])
    return len(question & stems(f"{passage['title']} {passage['text']}")), len(question)


def test_the_sample_is_as_large_as_promised(passages: dict[str, Passage], splits: dict[str, list[Record]]) -> None:
    """A build that lost a topic would still run the demo."""
    assert len(passages) >= 300
    assert sum(len(records) for records in splits.values()) >= 600
    assert len(splits["train"]) >= 380
    assert len(splits["dev"]) >= 60
    assert len(splits["test"]) >= 150


def test_passages_have_about_a_hundred_words(passages: dict[str, Passage]) -> None:
    lengths = {passage.title: len(passage.text.split()) for passage in passages.values()}
    assert {title: n for title, n in lengths.items() if not 80 <= n <= 120} == {}


def test_no_two_passages_share_a_title_or_a_beginning(passages: dict[str, Passage]) -> None:
    """Passages written by one pattern are told apart by their titles alone."""
    titles = Counter(passage.title for passage in passages.values())
    openings = Counter(" ".join(passage.text.split()[:3]) for passage in passages.values())
    assert titles.most_common(1)[0][1] == 1
    assert {opening: n for opening, n in openings.items() if n > 2} == {}


def test_the_text_is_plain_ascii_without_quotes_to_stumble_over(passages: dict[str, Passage]) -> None:
    """Curly quotes, tabs and double quotes would test the file reader, not the retriever."""
    assert [
        p.title for p in passages.values() if not f"{p.title}{p.text}".isascii() or re.search(r'["\t`]', p.text)
    ] == []


def test_every_first_answer_stands_in_its_passage_word_for_word(records: list[Record]) -> None:
    """An extractive reader can only copy."""
    assert [r["question"] for r in records if r["answers"][0] not in r["positive_ctxs"][0]["text"]] == []


def test_no_question_gives_its_answer_away(records: list[Record]) -> None:
    assert [r["question"] for r in records if has_answer(r["question"], r["answers"])] == []


def test_every_positive_is_the_passage_of_its_id(records: list[Record], passages: dict[str, Passage]) -> None:
    """A gold passage that is not in the corpus caps recall without a sign."""
    for record in records:
        (positive,) = record["positive_ctxs"]
        assert passages[positive["id"]] == Passage(**positive)


def test_hard_negatives_hold_no_answer_and_are_three_other_passages(
    records: list[Record], passages: dict[str, Passage]
) -> None:
    """A negative that answers the question teaches the retriever to avoid what it should find."""
    for record in records:
        negatives = [Passage(**negative) for negative in record["hard_negative_ctxs"]]
        assert len({n.id for n in negatives} - {record["positive_ctxs"][0]["id"]}) == 3
        assert all(passages[n.id] == n for n in negatives)
        assert not any(has_answer(f"{n.title} {n.text}", record["answers"]) for n in negatives)


def test_questions_and_ids_are_unique(records: list[Record]) -> None:
    assert len({r["question"].lower() for r in records}) == len({r["id"] for r in records}) == len(records)


def test_every_passage_has_at_least_two_questions(records: list[Record], passages: dict[str, Passage]) -> None:
    counts = Counter(record["positive_ctxs"][0]["id"] for record in records)
    assert set(counts) == set(passages)
    assert min(counts.values()) >= 2


def test_no_passage_is_gold_in_two_splits(splits: dict[str, list[Record]]) -> None:
    """Otherwise the test figures would measure memory."""
    gold = {split: {r["positive_ctxs"][0]["id"] for r in records} for split, records in splits.items()}
    assert all(gold.values())
    assert not gold["train"] & gold["dev"]
    assert not gold["train"] & gold["test"]
    assert not gold["dev"] & gold["test"]


def test_semantic_marks_exactly_the_questions_without_shared_content_words(records: list[Record]) -> None:
    for record in records:
        both, own = shared(record)
        assert record["semantic"] == (both <= 1 and 4 * both <= own), record["question"]


def test_at_least_a_third_of_each_split_is_semantic_and_a_third_is_not(splits: dict[str, list[Record]]) -> None:
    """With the marks on one side only, the demo's two columns would say the same."""
    for records in splits.values():
        assert 1 / 3 <= sum(r["semantic"] for r in records) / len(records) <= 2 / 3


def test_questions_that_are_not_semantic_share_more_words(records: list[Record]) -> None:
    """The control of the mark: it must separate."""
    shares: dict[bool, list[float]] = {True: [], False: []}
    for record in records:
        both, own = shared(record)
        shares[record["semantic"]].append(both / own)
    assert sum(shares[False]) / len(shares[False]) > 5 * sum(shares[True]) / len(shares[True])


def test_our_own_readers_sniff_the_questions(splits: dict[str, list[Record]]) -> None:
    """The sample is the first file a newcomer gives to `data=`."""
    examples = load_examples(str(questions_path("test")))
    assert [e.id for e in examples] == [r["id"] for r in splits["test"]]
    assert [e.positives[0].id for e in examples] == [r["positive_ctxs"][0]["id"] for r in splits["test"]]
    assert all(len(e.hard_negatives) == 3 for e in examples)


def test_a_wrong_split_is_named_with_the_choices() -> None:
    with pytest.raises(InputError, match="no split 'validation'; choose from train, dev, test"):
        questions_path("validation")


def test_the_files_are_what_the_sources_give(root: Path) -> None:
    """Someone who edits the JSONL by hand loses it with the next build."""
    command = [sys.executable, "scripts/build_sample.py", "--check"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_gives_the_true_counts(
    root: Path, passages: dict[str, Passage], splits: dict[str, list[Record]], records: list[Record]
) -> None:
    text = (root / "ragkit" / "sample" / "README.md").read_text(encoding="utf-8")
    assert f"| {len(passages)} passages" in text
    assert all(f"| {len(splits[split])} questions" in text for split in SPLITS)
    assert f"true for {sum(r['semantic'] for r in records)} of the {len(records)} questions" in text


def test_a_question_of_every_passage_is_held_out_and_others_about_it_are_left() -> None:
    """A held-out question that is learned from too, or is the only one about its passage, would measure nothing."""
    lines = questions_path("train").read_text("utf-8").splitlines()
    learned, held = held_out_lines(lines)
    assert sorted([*learned, *held]) == sorted(lines)
    asked, left = ([json.loads(line)["positive_ctxs"][0]["id"] for line in part] for part in (held, learned))
    assert len(asked) == len(set(asked))
    assert set(asked) == set(left)
    for part in (learned, held):
        kinds = Counter(json.loads(line)["semantic"] for line in part)
        assert min(kinds.values()) > len(part) / 4, "both kinds of questions in both parts"
