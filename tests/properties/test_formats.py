"""Every format gives back what it says it holds, whatever the texts are."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragkit.corpus import ReadOptions, read_corpus
from ragkit.corpus.formats import (
    FORMATS,
    read_examples,
    read_qrels,
    read_run,
    sniff,
    write_beir_qrels,
    write_examples,
    write_qrels,
    write_run,
    write_tevatron_run,
)
from ragkit.corpus.formats.catalogue import source_of
from ragkit.corpus.formats.passages import PASSAGE_WRITERS, hold_passage
from ragkit.types import Example, Passage, ScoredPassage

WRITTEN = sorted(name for name, known in FORMATS.items() if known.write_with is not None)
# what breaks naive readers: quotes, tabs, every kind of line end, brackets, backslashes, a mark, emoji
any_text = st.text(alphabet="aB1 \"'\t\n\r\u2028\x85[](){}\\,:\ufeffé🚁", max_size=8)
texts = any_text.filter(lambda text: bool(text.strip()))
ids = st.text(alphabet="abcXYZ0123-:/", min_size=1, max_size=5)
scores = st.floats(-1e6, 1e6, allow_subnormal=False)
# plain tuples, made into records in the tests: beartype checks records by chance, which no strategy may use
passages = st.tuples(ids, texts, any_text)
hits = st.tuples(ids, texts, any_text, scores)
some_passages = st.lists(passages, max_size=2, unique_by=lambda passage: passage[0])
examples = st.fixed_dictionaries(
    {
        "id": ids,
        "question": texts,
        "answers": st.lists(texts | st.sampled_from(["SUPPORTS", "REFUTES", "ALL CAPITALS"]), max_size=2),
        "positives": some_passages,
        "hard_negatives": some_passages,
        "retrieved": st.lists(hits, max_size=2, unique_by=lambda hit: hit[0]),
        "target": st.just("") | texts,
    }
)
batches = st.lists(examples, min_size=1, max_size=3, unique_by=(lambda one: one["id"], lambda one: one["question"]))
suffixes = st.sampled_from(["", ".jsonl", ".json.gz"])
thrifty = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def made(parts: dict[str, Any]) -> Example:
    return Example(
        id=parts["id"],
        question=parts["question"],
        answers=tuple(parts["answers"]),
        positives=tuple(Passage(*passage) for passage in parts["positives"]),
        hard_negatives=tuple(Passage(*passage) for passage in parts["hard_negatives"]),
        retrieved=tuple(ScoredPassage(Passage(*passage), score) for *passage, score in parts["retrieved"]),
        target=parts["target"],
    )


def held(batch: list[Example], name: str) -> list[tuple[Example, Example]]:
    """The examples a format can hold, each with what it holds."""
    hold = FORMATS[name].hold
    assert hold is not None
    pairs = [(example, hold(example)) for example in batch]
    return [(example, kept) for example, kept in pairs if kept is not None]


def without_number(example: Example) -> Example:
    """Questions that differ in line ends alone may become one: derived ids are then numbered."""
    return replace(example, id=re.sub(r"^(q-[0-9a-f]{16})-\d$", r"\1", example.id))


@pytest.mark.parametrize("name", WRITTEN)
@thrifty
@given(batch=batches, suffix=suffixes)
def test_a_format_gives_back_what_it_says_it_holds(name: str, suffix: str, batch: list[dict[str, Any]]) -> None:
    """A writer that drops a field, or a reader that splits a text, would train on something else in silence."""
    pairs = held([made(parts) for parts in batch], name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"questions{'' if name == 'beir' else suffix}"
        write_examples([example for example, _ in pairs], path, format=name)
        if pairs:
            found = list(read_examples(path, format=name))
            assert [without_number(example) for example in found] == [kept for _, kept in pairs]
            assert sniff(path) in {name, *LOOK_ALIKE.get(name, ())}


# a FiD record without the optional target is read alike as DPR's results
LOOK_ALIKE = {"fid": {"dpr-results"}}


@pytest.mark.parametrize("name", WRITTEN)
@thrifty
@given(batch=batches)
def test_what_a_format_holds_it_holds_again(name: str, batch: list[dict[str, Any]]) -> None:
    """Else a second conversion through the same format would lose more than the first reported."""
    hold = FORMATS[name].hold
    assert hold is not None
    for _, kept in held([made(parts) for parts in batch], name):
        assert hold(kept) == kept


@pytest.mark.parametrize("name", sorted(PASSAGE_WRITERS))
@thrifty
@given(batch=st.lists(passages, min_size=1, max_size=5, unique_by=lambda passage: passage[0]))
def test_passages_come_back_from_every_format(name: str, batch: list[tuple[str, str, str]]) -> None:
    made_passages = [Passage(*passage) for passage in batch]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out"
        PASSAGE_WRITERS[name][1](made_passages, path)
        found = list(read_corpus(path, options=ReadOptions(format=source_of(name))))
    assert found == [hold_passage(name, passage) for passage in made_passages]


some_hits = st.dictionaries(ids, scores, min_size=1, max_size=4)
runs = st.dictionaries(
    ids, some_hits.map(lambda hits: sorted(hits.items(), key=lambda hit: -hit[1])), min_size=1, max_size=4
)


@pytest.mark.parametrize("write", [write_run, write_tevatron_run])
@thrifty
@given(run=runs)
def test_a_run_comes_back_to_the_last_bit(write: Callable[..., None], run: dict[str, list[tuple[str, float]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(run, Path(folder) / "run")
        assert read_run(Path(folder) / "run") == run


@thrifty
@given(qrels=st.dictionaries(ids, st.dictionaries(ids, st.integers(-1, 3), min_size=1), min_size=1))
def test_judgements_come_back_from_both_formats(qrels: dict[str, dict[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_qrels(qrels, Path(folder) / "trec")
        write_beir_qrels(qrels, Path(folder) / "beir")
        assert read_qrels(Path(folder) / "trec") == read_qrels(Path(folder) / "beir") == qrels
