"""The manifest survives its file, and says what is wrong with a generation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragkit.errors import IndexCorrupt, IndexMismatch
from ragkit.index import EncoderInfo, Manifest, Origin, VectorInfo
from ragkit.index.manifest import FileEntry


def manifest(*, vectors: VectorInfo | None = None, encoder: EncoderInfo | None = None) -> Manifest:
    return Manifest(
        kind="flat" if vectors else "bm25",
        count=7,
        parameters={"nlist": None, "search": ""},
        vectors=vectors,
        encoder=encoder,
        corpus_digest="c" * 64,
        origin=Origin(3, "2026-01-02T03:04:05+00:00", "0.1.0"),
        files={"index.faiss": FileEntry(3, "0" * 64)},
    )


DENSE = manifest(
    vectors=VectorInfo("inner_product", 384, "float32", 2),
    encoder=EncoderInfo("pkg://x/model", "e" * 64, "bfloat16", {"model": "pkg://x/model"}),
)


@pytest.mark.parametrize("kept", [DENSE, manifest()], ids=["dense", "bm25"])
def test_a_manifest_is_read_as_it_was_written(tmp_path: Path, kept: Manifest) -> None:
    kept.save(tmp_path)
    assert Manifest.load(tmp_path) == kept


def test_the_json_has_the_keys_of_the_format(tmp_path: Path) -> None:
    """Silent failure: a renamed key that only ragkit itself can still read."""
    DENSE.save(tmp_path)
    data = json.loads((tmp_path / "manifest.json").read_text())
    assert list(data) == [
        "format", "version", "kind", "parameters", "metric", "dim", "dtype", "zero_vectors", "count", "encoder",
        "corpus_digest", "generation", "created", "ragkit_version", "files",
    ]  # fmt: skip
    assert data["encoder"]["dtype"] == "bfloat16"
    assert data["files"]["index.faiss"] == {"size": 3, "sha256": "0" * 64}


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"format": "ragkit-index", "version": 1}', "\x00" * 40])
def test_a_damaged_manifest_is_corrupt_not_a_traceback(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(IndexCorrupt, match=r"manifest\.json .*ragkit index"):
        Manifest.load(tmp_path)


def test_a_missing_manifest_means_an_unfinished_build(tmp_path: Path) -> None:
    with pytest.raises(IndexCorrupt, match="did not finish"):
        Manifest.load(tmp_path)


def test_a_newer_format_is_refused_with_both_versions(tmp_path: Path) -> None:
    DENSE.save(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(IndexMismatch, match=r"version 2, this ragkit reads ragkit-index version 1"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"dim": 768}, r"dimension 384, this run needs 768; build it again: ragkit index .*overwrite=true"),
        ({"metric": "cosine"}, "metric inner_product, this run needs cosine"),
        ({"encoder_digest": "f" * 64}, r"encoder eeeeeeeeeeee\.\.\. \(made by pkg://x/model\), this run needs fffff"),
        ({"corpus_digest": "d" * 64}, r"corpus cccccccccccc\.\.\., this run needs dddd"),
    ],
)
def test_what_differs_is_said_with_found_wanted_and_remedy(wanted: dict[str, object], message: str) -> None:
    """Faults 7 and 8."""
    with pytest.raises(IndexMismatch, match=message):
        DENSE.require(Path("runs/wiki"), **wanted)  # type: ignore[arg-type]


def test_what_agrees_is_accepted() -> None:
    wanted = {"dim": 384, "metric": "inner_product", "encoder_digest": "e" * 64, "corpus_digest": "c" * 64}
    assert DENSE.require(Path(), **wanted) is None  # type: ignore[arg-type, func-returns-value]


def test_sizes_are_compared_at_once_and_contents_on_demand(tmp_path: Path) -> None:
    """Faults 5 and 6."""
    file = tmp_path / "index.faiss"
    with pytest.raises(IndexCorrupt, match=r"index\.faiss is missing \(the manifest wants 3 bytes\)"):
        DENSE.verify(tmp_path)
    file.write_bytes(b"ab")
    with pytest.raises(IndexCorrupt, match=r"index\.faiss has 2 bytes, the manifest wants 3"):
        DENSE.verify(tmp_path)
    file.write_bytes(b"abc")
    DENSE.verify(tmp_path)
    with pytest.raises(IndexCorrupt, match=r"index\.faiss was altered: its sha256 is ba7816bf8f01"):
        DENSE.verify(tmp_path, level="full")


@pytest.mark.parametrize(("key", "value"), [("dim", "384"), ("count", None), ("files", []), ("parameters", 3)])
def test_a_value_of_another_type_is_corrupt(tmp_path: Path, key: str, value: object) -> None:
    """Silent failure: "384" is compared with 384 and the message reads `384, this run needs 384`."""
    (tmp_path / "manifest.json").write_text(json.dumps(DENSE.to_json() | {key: value}))
    with pytest.raises(IndexCorrupt, match=f"lacks or misplaces a key.*{key}"):
        Manifest.load(tmp_path)
