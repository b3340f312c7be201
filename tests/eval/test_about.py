"""What metrics.json says of the retrievers and the reader."""

from __future__ import annotations

from types import SimpleNamespace

from ragkit.eval.about import describe_reader, describe_retriever
from ragkit.index.manifest import EncoderInfo, Manifest, Origin, VectorInfo
from ragkit.retriever.bm25 import BM25
from ragkit.retriever.dense import DenseRetriever
from ragkit.retriever.rank_bm25 import RankBM25

DIGEST = "0123456789abcdef" * 4


def _dense(reference):
    manifest = Manifest(
        kind="ivf",
        count=1,
        parameters={},
        vectors=VectorInfo("inner_product", 2, "float32"),
        encoder=EncoderInfo("runs/first", DIGEST, "float32"),
        corpus_digest="c",
        origin=Origin(1, "", ""),
        files={},
    )
    retriever = DenseRetriever.__new__(DenseRetriever)
    retriever.index = SimpleNamespace(manifest=manifest)
    retriever.encoder = SimpleNamespace(reference=reference, digest=DIGEST)
    return retriever


def test_a_dense_retriever_is_named_by_its_encoder_and_the_beginning_of_its_digest():
    """Two trained encoders in folders of one name differ by their digest alone."""
    assert describe_retriever(_dense("runs/copy")) == {"kind": "ivf", "encoder": "runs/copy", "digest": "01234567"}
    assert describe_retriever(_dense(""))["encoder"] == "runs/first"


def test_both_bm25s_are_told_apart():
    assert describe_retriever(BM25()) == {"kind": "bm25"}
    assert describe_retriever(RankBM25()) == {"kind": "rank_bm25"}


def test_a_reader_is_named_by_its_reference_else_by_its_class():
    assert describe_reader(SimpleNamespace(reference="runs/reader")) == "runs/reader"
    assert describe_reader(SimpleNamespace()) == "SimpleNamespace"
