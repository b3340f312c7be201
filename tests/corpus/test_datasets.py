from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ragkit.corpus import load_examples
from ragkit.corpus.datasets import NAMED_DATASETS
from ragkit.errors import InputError

RECORD = {"question": "who wrote hamlet", "answers": ["Shakespeare"], "positive_ctxs": []}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("RAGKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "nq.test.jsonl").write_text(json.dumps(RECORD))
    return tmp_path / "data"


class Hub:
    """In place of ``datasets.load_dataset``: real ``datasets.Dataset`` objects, and what was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]) -> None:
        import datasets  # type: ignore[import-untyped]

        self.asked: list[tuple[object, ...]] = []
        self.table = datasets.Dataset.from_list(rows)
        monkeypatch.setattr(datasets, "load_dataset", self.load)

    def load(self, hub_id: str, config: str | None, *, split: str) -> Any:
        self.asked.append((hub_id, config, split))
        return self.table


def test_a_name_is_a_file_of_the_folder_and_needs_no_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [example.question for example in load_examples("nq/test", datasets_dir=folder)] == ["who wrote hamlet"]
    monkeypatch.setenv("RAGKIT_DATA", str(folder))
    assert load_examples("nq") == load_examples("nq/test", datasets_dir=folder)


def test_a_path_wins_over_a_name(folder: Path) -> None:
    Path("nq").write_text(json.dumps(RECORD | {"question": "from the path"}))
    assert load_examples("nq", datasets_dir=folder)[0].question == "from the path"


def test_nq_open_comes_from_the_hub_when_no_file_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch, [{"question": "q one", "answer": ["a", "b"]}, {"question": "q two", "answer": ["c"]}])
    found = load_examples("nq/train", datasets_dir=folder)
    assert [(example.question, example.answers) for example in found] == [("q one", ("a", "b")), ("q two", ("c",))]
    assert hub.asked == [("google-research-datasets/nq_open", "nq_open", "train")]


def test_triviaqa_of_the_hub_has_aliases_as_answers_and_the_value_as_target(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"value": "LONDON", "aliases": ["London", "London, UK"], "normalized_aliases": ["london"]}
    hub = Hub(monkeypatch, [{"question": "Capital of the UK?", "question_id": "tc_1", "answer": answer}])
    (found,) = load_examples("triviaqa/test", datasets_dir=folder)
    assert (found.id, found.answers, found.target) == ("tc_1", ("London", "London, UK"), "London")
    assert hub.asked == [("mandarjoshi/trivia_qa", "unfiltered.nocontext", "validation")]


def test_squad_of_the_hub_has_its_paragraph_as_positive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"text": ["Paris", "Paris"], "answer_start": [0, 0]}
    row = {"id": "s1", "title": "New_York", "context": "Paris is a city.", "question": "which city", "answers": answers}
    Hub(monkeypatch, [row])
    (found,) = load_examples("squad/dev", datasets_dir=folder)
    assert (found.answers, found.positives[0].title, found.positives[0].text) == (
        ("Paris",),
        "New York",
        "Paris is a city.",
    )


def test_the_dev_split_that_the_hub_lacks_is_not_taken_from_its_validation(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's validation split is the papers' test set: tuned on as dev it would be no test."""
    hub = Hub(monkeypatch, [{"question": "q", "answer": ["a"]}])
    with pytest.raises(InputError, match=r"nq_open has no 'dev', only \['test', 'train'\]"):
        load_examples("nq/dev", datasets_dir=folder)
    assert hub.asked == []


def test_without_a_network_the_error_says_where_it_looked_and_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(InputError) as caught:
        load_examples("squad", datasets_dir=folder)
    for part in (
        "squad.dev.jsonl",
        "rajpurkar/squad",
        "Couldn't reach the Hub",
        "RAGKIT_DATA",
        "give the path of a file",
    ):
        assert part in str(caught.value)


@pytest.mark.usefixtures("folder")
def test_an_unknown_name_lists_the_known_ones_and_a_lost_path_is_called_one() -> None:
    with pytest.raises(InputError, match=r"RAGKIT_DATA is not set; and 'nqq' is none of .*'nq', 'sample', 'squad'"):
        load_examples("nqq/test")
    with pytest.raises(InputError, match=r"no such file: data/nq\.test\.json"):
        load_examples("data/nq.test.json")
    assert "nq" in NAMED_DATASETS


def test_the_real_files_load_by_name(data_dir: Path) -> None:
    assert len(load_examples("nq/dev", datasets_dir=data_dir)) == 442
    assert len(load_examples("triviaqa/dev", datasets_dir=data_dir)) == 271


def test_the_built_in_sample_has_a_name() -> None:
    assert len(load_examples("sample/dev")) == 86
    assert load_examples("sample") == load_examples("sample/test")
    with pytest.raises(InputError, match="no split 'validation'"):
        load_examples("sample/validation")
