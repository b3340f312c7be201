"""BM25: a table worked by hand, and what happens where there is nothing to find."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ragkit.corpus import write_store
from ragkit.errors import ConfigError, IndexCorrupt, InputError
from ragkit.retriever.bm25 import BM25
from ragkit.retriever.fusion import Fusion
from ragkit.retriever.protocol import Retriever
from ragkit.retriever.rank_bm25 import RankBM25
from ragkit.types import Passage

TABLE = ["red fox", "red red dog", "blue dog runs", "fox", "sun"]  # lengths 2 3 3 1 1, mean 2


@pytest.fixture
def store_of(tmp_path):
    def build(texts):
        passages = (Passage(f"p{row}", text) if isinstance(text, str) else text for row, text in enumerate(texts))
        return write_store(passages, tmp_path / "corpus")

    return build


@pytest.fixture
def table(store_of):
    return BM25(stemmer=None, stopwords=None).fit(store_of(TABLE))


def test_scores_equal_a_table_worked_by_hand(table):
    """N 5, n_red = n_fox = n_dog = 2: idf ln(1 + 3.5/2.5) = ln 2.4; n_sun = 1: ln 4.

    k1 0.9, b 0.4: the length norm is 0.9, 1.08 and 0.72 for lengths 2, 3 and 1. A wrong k1, b, idf or average
    length changes every figure; a ranking test alone would not see it.
    """
    idf = np.log(2.4)
    hits = table.search(["red fox", "dog", "sun", "red red"], k=3)
    assert hits.rows.tolist() == [[0, 1, 3], [1, 2, -1], [4, -1, -1], [1, 0, -1]]
    expected = [
        [2 * idf / 1.9, idf * 2 / 3.08, idf / 1.72],
        [idf / 2.08, idf / 2.08, -np.inf],
        [np.log(4) / 1.72, -np.inf, -np.inf],
        [2 * idf * 2 / 3.08, 2 * idf / 1.9, -np.inf],  # a word asked twice counts twice
    ]
    np.testing.assert_allclose(hits.scores, expected, rtol=1e-6)


def test_k1_and_b_reach_the_scores(store_of):
    """A parameter that is accepted and dropped leaves the default's scores: k1 0 makes every weight the idf."""
    store = store_of(TABLE)
    flat = BM25(k1=0.0, stemmer=None, stopwords=None).fit(store).search(["red"], k=2)
    np.testing.assert_allclose(flat.scores, [[np.log(2.4)] * 2], rtol=1e-6)
    assert flat.rows.tolist() == [[0, 1]]
    no_length = BM25(b=0.0, stemmer=None, stopwords=None).fit(store).search(["fox"], k=2)
    np.testing.assert_allclose(no_length.scores, [[np.log(2.4) / 1.9] * 2], rtol=1e-6)


def test_the_title_is_indexed_with_the_text(store_of):
    """BM25 over the text alone loses the passages that name their subject only in the title."""
    retriever = BM25().fit(store_of([Passage("a", "born in Ulm", title="Albert Einstein"), "a physicist"]))
    assert retriever.search(["einstein"], k=2).rows.tolist() == [[0, -1]]


def test_stemming_and_stop_words_are_options(store_of):
    """Left on against the user's wish they merge words of a language they were not made for."""
    store = store_of(["the foxes were running", "a fox", "the who"])
    default = BM25().fit(store)
    assert default.search(["run fox", "the"], k=3).rows.tolist() == [[0, 1, -1], [-1, -1, -1]]
    plain = BM25(stemmer=None, stopwords=None).fit(store)
    assert plain.search(["run fox", "the"], k=3).rows.tolist() == [[1, -1, -1], [2, 0, -1]]


@pytest.mark.parametrize("retriever", [BM25, RankBM25])
@pytest.mark.parametrize("query", ["", "  \n", "?!", "the of", "zebra", "zebra unicorn", "\ud800", "\x00"])
def test_a_query_without_a_known_term_has_no_hits(store_of, retriever, query):
    """bm25s returns arbitrary documents with score 0 here; a reader would answer from them (faults 18)."""
    hits = retriever().fit(store_of(TABLE)).search([query, "sun"], k=2)
    assert hits.rows.tolist() == [[-1, -1], [4, -1]]
    assert hits.scores[0].tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize("retriever", [BM25, RankBM25])
@pytest.mark.parametrize("texts", [[], ["", " ", "?"], ["the", "of a"]])
def test_a_corpus_without_terms_gives_no_hits(store_of, tmp_path, retriever, texts):
    """bm25s raises ValueError and rank-bm25 ZeroDivisionError here (fault 19); saving must work too."""
    fitted = retriever().fit(store_of(texts))
    fitted.save(tmp_path / "index")
    for found in (fitted, retriever.load(tmp_path / "index")):
        assert len(found) == len(texts)
        assert found.search(["fox", ""], k=2).rows.tolist() == [[-1, -1], [-1, -1]]


@pytest.mark.parametrize("retriever", [BM25, RankBM25])
def test_k_beyond_the_corpus_is_filled_with_missing_hits(store_of, retriever):
    """bm25s raises ValueError for it (fault 19)."""
    hits = retriever().fit(store_of(TABLE)).search(["dog"], k=9)
    assert hits.rows.tolist() == [[1, 2] + [-1] * 7]
    assert hits.rows.dtype == np.int64
    assert hits.scores.dtype == np.float32


@pytest.mark.parametrize("retriever", [BM25, RankBM25])
def test_no_queries_give_an_empty_result(store_of, retriever):
    """bm25s fails to concatenate nothing."""
    assert retriever().fit(store_of(TABLE)).search([], k=3).rows.shape == (0, 3)


@pytest.mark.parametrize("retriever", [BM25, RankBM25])
def test_equal_scores_are_in_order_of_row_also_at_the_cut(store_of, retriever):
    """bm25s keeps arbitrary ones of equal scores: two machines, or two values of k, would disagree."""
    fitted = retriever().fit(store_of(["one cat"] * 7 + ["cat cat"] + ["rain"] * 20))
    for k in range(1, 9):
        assert fitted.search(["cat"], k=k).rows.tolist() == [[7, 0, 1, 2, 3, 4, 5, 6][:k]]


@pytest.mark.parametrize("retriever", [BM25, RankBM25])
@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(store_of, retriever, k):
    """A slice by a negative k would drop hits without a word."""
    with pytest.raises(InputError, match=f"k is {k}"):
        retriever().fit(store_of(TABLE)).search(["fox"], k=k)


@pytest.mark.parametrize("retriever", [BM25, RankBM25])
def test_a_retriever_that_was_not_fitted_says_so(retriever):
    """None of its attributes exists yet; an AttributeError would not tell the user what to call."""
    for use in (lambda r: r.search(["x"], k=1), lambda r: r.corpus_digest, len, lambda r: r.save("nowhere")):
        with pytest.raises(InputError, match=r"call fit\(store\)"):
            use(retriever())


@pytest.mark.parametrize("retriever", [BM25, RankBM25])
def test_it_is_a_retriever_and_knows_its_corpus(store_of, retriever):
    """Fusion compares the digests; one that differed between fit and load would refuse the user's own index."""
    store = store_of(TABLE)
    fitted = retriever().fit(store)
    assert isinstance(fitted, Retriever)
    assert fitted.corpus_digest == store.digest
    assert len(fitted) == 5


@pytest.mark.parametrize("retriever", [BM25, RankBM25])
def test_a_loaded_index_finds_what_the_fitted_one_finds(store_of, tmp_path, retriever):
    """Options lost on the way (stemmer, k1) would analyse queries unlike passages."""
    fitted = retriever(k1=1.3, b=0.6, stemmer=None, stopwords="german").fit(store_of([*TABLE, "der Fuchs"]))
    fitted.save(tmp_path / "index")
    loaded = retriever.load(tmp_path / "index")
    queries = ["red fox", "dog", "der fuchs", "foxes"]
    before, after = fitted.search(queries, k=3), loaded.search(queries, k=3)
    np.testing.assert_array_equal(before.rows, after.rows)
    np.testing.assert_array_equal(before.scores, after.scores)
    assert loaded.parameters == fitted.parameters
    assert loaded.corpus_digest == fitted.corpus_digest


def test_a_loaded_index_is_memory_mapped_and_holds_no_pickle(table, tmp_path):
    """An index read into memory costs its size in every process; a pickle runs whatever a stranger put in it."""
    table.save(tmp_path)
    for array in (BM25.load(tmp_path)._index.data, BM25.load(tmp_path)._index.indices):
        base = array
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap)
    assert {path.suffix for path in tmp_path.iterdir() if path.is_file()} == {".npy", ".json"}
    assert not any(b"cnumpy" in path.read_bytes() for path in tmp_path.glob("*.npy"))


@pytest.mark.parametrize("name", ["bm25.json", "vocab.index.json", "data.csc.index.npy", "indptr.csc.index.npy"])
@pytest.mark.parametrize("damage", ["missing", "half", "empty"])
def test_a_missing_or_truncated_file_is_named_as_damage(table, tmp_path, name, damage):
    """numpy and json raise their own errors, which tell the user nothing of the index or its remedy."""
    table.save(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "half" else b"")
    with pytest.raises(IndexCorrupt, match="build it again"):
        BM25.load(tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("indices.csc.index.npy", 3), 5, "rows that are not among its 5 passages"),
        (("indices.csc.index.npy", 3), 1 << 30, "rows that are not among its 5 passages"),
        (("indices.csc.index.npy", 3), -1, "rows that are not among its 5 passages"),
        (("indptr.csc.index.npy", 0), 1, "does not rise from 0"),
        (("indptr.csc.index.npy", 2), 1 << 40, "does not rise from 0"),
        (("indptr.csc.index.npy", 2), -1, "does not rise from 0"),
    ],
)
def test_a_number_that_leads_out_of_the_arrays_is_damage(table, tmp_path, place, value, message):
    """The compiled search checks nothing: a flipped bit made it write outside of its memory."""
    table.save(tmp_path)
    name, at = place
    array = np.load(tmp_path / name)
    array[at] = value
    np.save(tmp_path / name, array)
    with pytest.raises(IndexCorrupt, match=rf"{message}.*overwrite=true"):
        BM25.load(tmp_path)


def test_every_flipped_bit_of_the_rows_is_damage_or_harmless(table, tmp_path):
    """The header of the file counts too: another dtype or shape is read without an error."""
    table.save(tmp_path)
    path = tmp_path / "indices.csc.index.npy"
    content = path.read_bytes()
    outcomes = []
    for at in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[at] ^= 0x80
        path.write_bytes(flipped)
        try:
            rows = BM25.load(tmp_path).search(["red fox dog sun"], k=5).rows
        except IndexCorrupt:
            outcomes.append("damage")
        else:
            assert rows.max() < 5
            outcomes.append("harmless")
    assert "damage" in outcomes


def test_a_term_number_out_of_range_is_damage(table, tmp_path):
    table.save(tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.index.json").read_text())
    vocabulary["fox"] = len(vocabulary)
    (tmp_path / "vocab.index.json").write_text(json.dumps(vocabulary))
    with pytest.raises(IndexCorrupt, match="numbers terms"):
        BM25.load(tmp_path)


@pytest.mark.parametrize("made", [BM25, RankBM25])
def test_one_string_is_not_taken_for_a_list_of_letters(store_of, made):
    """Guards against hits for "w", "h", "o" in the place of one query's."""
    fitted = made().fit(store_of(TABLE))
    for retriever in (fitted, Fusion([fitted])):
        with pytest.raises(InputError, match=r"one string 'red fox': write \[query\]"):
            retriever.search("red fox", k=2)
        assert retriever.search([], k=2).rows.shape == (0, 2)


def test_files_of_two_indexes_together_are_refused(table, tmp_path):
    """Scores of one index under the terms of another search without an error, and wrongly."""
    table.save(tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.index.json").read_text())
    vocabulary.popitem()
    (tmp_path / "vocab.index.json").write_text(json.dumps(vocabulary))
    with pytest.raises(IndexCorrupt, match="do not belong together"):
        BM25.load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k1": -1.0}, "k1 is -1"),
        ({"b": 1.5}, "b is 1.5"),
        ({"k1": float("nan")}, "k1 is nan"),
        ({"method": "bm42"}, "choose from .*lucene"),
        ({"idf_method": "bm42"}, "choose from .*lucene"),
        ({"stemmer": "klingon"}, "choose from .*english"),
        ({"stopwords": "klingon"}, "choose from .*english"),
    ],
)
def test_a_wrong_option_is_refused_with_the_choices(arguments, message):
    """bm25s takes an unknown number as it is, and a misspelt language raises far from where it was written."""
    with pytest.raises(ConfigError, match=message):
        BM25(**arguments)


def test_unicode_forms_of_one_word_are_one_term(store_of):
    """A query typed in decomposed letters would miss every passage in composed ones."""
    fitted = BM25().fit(store_of(["Wilhelm R\u00f6ntgen", "cats"]))
    assert fitted.search(["ro\u0308ntgen"], k=1).rows.tolist() == [[0]]


def test_fit_reads_the_store_once_and_never_whole():
    """A list of all passages would not fit into memory for the corpora this is made for."""

    class Counting:
        digest = "d"

        def __init__(self, passages):
            self.passages, self.sizes = passages, []

        def __len__(self):
            return len(self.passages)

        def batches(self, size):
            for start in range(0, len(self.passages), size):
                batch = self.passages[start : start + size]
                self.sizes.append(len(batch))
                yield batch

    store = Counting([Passage(str(row), "red fox") for row in range(5000)])
    BM25().fit(store)
    assert sum(store.sizes) == 5000
    assert max(store.sizes) <= 1024
