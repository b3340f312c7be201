"""Splitting documents: every word is kept once, windows overlap as asked, and nothing crosses a document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragkit.corpus import SplitPolicy, split_document
from ragkit.errors import InputError
from ragkit.types import Document


def pieces(text: str, **policy: object) -> list[str]:
    return [p.text for p in split_document(Document("d", text, "T"), SplitPolicy(**policy))]  # type: ignore[arg-type]


def words(count: int, start: int = 0) -> str:
    return " ".join(f"w{number}" for number in range(start, start + count))


def test_a_document_becomes_passages_of_a_hundred_words_with_its_title_and_numbered_ids() -> None:
    """DPR's corpus is cut so; an id that depends on the number of pieces could not be found again."""
    passages = list(split_document(Document("12", words(250), "Anarchism"), SplitPolicy()))
    assert [p.text for p in passages] == [words(100), words(100, 100), words(50, 200)]
    assert [p.id for p in passages] == ["12-0", "12-1", "12-2"]
    assert {p.title for p in passages} == {"Anarchism"}
    assert [p.id for p in split_document(Document("12", "short"), SplitPolicy())] == ["12-0"]


def test_a_stride_repeats_the_end_of_the_window_before_and_no_window_holds_only_repeats() -> None:
    """A last window inside the one before would be an exact near-duplicate in the index."""
    assert pieces("a b c d e f g", size=4, stride=2) == ["a b c d", "c d e f", "e f g"]
    assert pieces("a b c d", size=4, stride=2) == ["a b c d"]


def test_white_space_becomes_single_spaces_and_nothing_gives_nothing() -> None:
    """A passage with line ends would break every line-based format it is written to."""
    assert pieces("a\r\n\n b\t\u00a0c\u2028d", size=9) == ["a b c d"]
    assert pieces(" \n ", size=9) == []


def test_chinese_and_japanese_split_without_spaces() -> None:
    """Split by spaces, a Chinese article is one word, and one passage however long it is."""
    assert pieces("東京は日本の首都", size=4) == ["東京は日", "本の首都"]
    assert pieces("see 東京 now", size=2) == ["see 東", "京 now"]


def test_a_word_without_end_is_cut() -> None:
    """A megabyte of base64 would otherwise be one passage of a megabyte."""
    assert [len(piece) for piece in pieces("x" * 1000, size=2)] == [400, 400, 200]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415

    vocabulary = {"[UNK]": 0, "a": 1, "##b": 2, "c": 3}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.enable_truncation(3)  # as saved by sentence-transformers: splitting must see every token all the same
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save(str(folder / "tokenizer.json"))
    return str(folder)


def test_tokens_are_counted_and_words_are_never_cut(tokenizer: str) -> None:
    """A window cut inside a word gives two passages that each hold a non-word."""
    assert pieces("ab c abb c c", size=3, unit="token", tokenizer=tokenizer) == ["ab c", "abb", "c c"]
    assert pieces("abbbb c", size=3, unit="token", tokenizer=tokenizer) == ["abbbb", "c"]
    assert pieces("c c c ab c", size=4, stride=2, unit="token", tokenizer=tokenizer) == ["c c c", "c c ab", "ab c"]


def test_a_document_stays_whole_and_as_it_is_where_asked() -> None:
    """The id then is the document's own, or its gold ids would all be unknown."""
    passage = next(split_document(Document("d", "a\n b", "T"), SplitPolicy(unit="document")))
    assert (passage.id, passage.text) == ("d", "a\n b")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"size": 0}, "size 0 and stride 0 do not fit"),
        ({"size": 5, "stride": 5}, "size 5 and stride 5 do not fit"),
        ({"unit": "sentence"}, r"unknown unit 'sentence' to split by; choose from \['document', 'token', 'word'\]"),
        ({"unit": "token"}, "give a tokenizer with unit 'token'"),
        ({"tokenizer": "x"}, "give a tokenizer with unit 'token'"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(policy: dict[str, object], message: str) -> None:
    """A stride as large as the window would never come to an end."""
    with pytest.raises(InputError, match=message):
        SplitPolicy(**policy)  # type: ignore[arg-type]


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    """The Rust library's own message is only `No such file or directory`."""
    with pytest.raises(InputError, match=r"no tokenizer at .*tokenizer\.json"):
        pieces("a", unit="token", tokenizer=str(tmp_path))
    (tmp_path / "tokenizer.json").write_text(json.dumps({"not": "one"}))
    with pytest.raises(InputError, match="is no tokenizer"):
        pieces("a", unit="token", tokenizer=str(tmp_path))
