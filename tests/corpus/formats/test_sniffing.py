from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ragkit.corpus.formats import sniff
from ragkit.corpus.formats.pickles import TO_NPY
from ragkit.errors import FormatError, InputError

VECTORS = np.arange(6, dtype="float32").reshape(2, 3)
PICKLES = {
    "dpr": [("a", VECTORS[0]), ("b", VECTORS[1])],
    "fid": (["a", "b"], VECTORS),
    "tevatron": (VECTORS, ["a", "b"]),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("shape", PICKLES)
def test_pickled_vectors_are_refused_with_the_way_out(tmp_path: Path, shape: str, protocol: int) -> None:
    path = tmp_path / "embeddings"
    path.write_bytes(pickle.dumps(PICKLES[shape], protocol=protocol))
    with pytest.raises(InputError, match=r"is a pickle, which can run any code(.|\n)*python to_npy.py .*embeddings"):
        sniff(path)


@pytest.mark.parametrize("shape", PICKLES)
def test_the_way_out_gives_the_vectors_in_the_order_of_their_ids(tmp_path: Path, shape: str) -> None:
    """Run as a user would, in a process of its own."""
    (tmp_path / "vectors").write_bytes(pickle.dumps(PICKLES[shape]))
    (tmp_path / "to_npy.py").write_text(TO_NPY)
    subprocess.run([sys.executable, "to_npy.py", "vectors"], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), VECTORS)
    assert (tmp_path / "vectors.ids.txt").read_text() == "a\nb\n"


class Attack:
    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("open('pwned', 'w')",)


def test_the_way_out_runs_nothing_that_hides_in_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "evil").write_bytes(pickle.dumps(Attack()))
    (tmp_path / "to_npy.py").write_text(TO_NPY)
    done = subprocess.run(
        [sys.executable, "to_npy.py", "evil"], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert (done.returncode, (tmp_path / "pwned").exists()) == (1, False)
    assert "refused builtins.exec" in done.stderr


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("q1 Q0 d1 1 12.5 tag\nq1 Q0 d2 2 11 tag\n", "trec-run"),
        ("q1\td1\t12.5\nq1\td2\t11\n", "tevatron-run"),
        ("q1 0 d1 1\nq1 0 d2 0\n", "trec-qrels"),
        ("query-id\tcorpus-id\tscore\nq1\td1\t1\n", "beir-qrels"),
        ("id\ttext\ttitle\n1\tNineteen Eighty-Four is a novel.\t1984\n", "tsv"),
        ("1\tA novel of 1949.\t1984\n2\tAnother novel.\t1985\n", "tsv"),
        ('{"_id": "d1", "title": "", "text": "A passage."}\n', "jsonl"),
        ('{"id": "1", "contents": "Title\\nText"}\n', "jsonl"),
        ('{"question": "a {question}", "answer": ["x"]}\n', "nq-open"),
        ("{a} or [b]?\t['x']\n", "dpr-qas"),
    ],
)
def test_the_content_decides(tmp_path: Path, content: str, wanted: str) -> None:
    path = tmp_path / "file.csv"
    path.write_text(content)
    assert sniff(path) == wanted


def test_a_folder_of_beir_is_questions_if_it_has_queries(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "title": "", "text": "A passage."}\n')
    assert sniff(tmp_path) == "beir-corpus"
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "A question?"}\n')
    assert sniff(tmp_path) == "beir"


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        (b"", InputError, "is empty"),
        (b"[]", InputError, "holds an empty JSON list"),
        (b'{"a": 1}', InputError, r"no format has records with the keys \['a'\]"),
        (b'[{"a": 1,}]', FormatError, ":1: not JSON"),
        (b"[1, 2]", FormatError, ":1: record 1: wanted an object, got an integer 1"),
        (b"\x93NUMPY\x01\x00", InputError, "is a NumPy array: it holds no questions"),
    ],
)
def test_what_is_nothing_known_is_an_error(tmp_path: Path, content: bytes, error: type[Exception], reason: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(error, match=reason):
        sniff(tmp_path / "file")


def test_a_file_that_is_not_there_is_an_error_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lost: no such file"):
        sniff(tmp_path / "lost")


def test_sniffing_reads_one_record_of_a_large_list(tmp_path: Path) -> None:
    """A broken end shows how far it read."""
    path = tmp_path / "list"
    record = json.dumps({"question": "q", "answers": ["a"], "positive_ctxs": [], "padding": "x" * 1000})
    path.write_text("[" + (record + ",\n") * 5000 + "broken")
    assert sniff(path) == "dpr"
