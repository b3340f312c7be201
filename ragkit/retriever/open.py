"""Open what ``ragkit index`` wrote: its retriever, of whatever kind, and its passages."""

from __future__ import annotations

from pathlib import Path

from ragkit.corpus import PassageStore
from ragkit.errors import IndexMismatch
from ragkit.index import Manifest, live_generation, open_index
from ragkit.index.manifest import Verify
from ragkit.retriever.bm25 import BM25
from ragkit.retriever.dense import DenseRetriever, QueryEncoder
from ragkit.retriever.dual_encoder import DualEncoder
from ragkit.retriever.protocol import Retriever
from ragkit.retriever.rank_bm25 import RankBM25

CORPUS = "corpus"
SPARSE_FOLDER = "bm25"

SPARSE: dict[str, type[BM25] | type[RankBM25]] = {"bm25": BM25, "rank_bm25": RankBM25}


def open_retriever(
    index_dir: Path | str,
    *,
    encoder: QueryEncoder | None = None,
    device: str = "auto",
    verify: Verify = "size",
    allow_stale: bool = False,
) -> Retriever:
    """The retriever of an index directory: BM25, or dense with the encoder that its manifest names.

    ``encoder`` takes the place of the one named (a trained one, an already loaded one) and must have its digest
    unless ``allow_stale``. ``device`` is where a loaded encoder computes.

    Raises:
        InputError: there is no index.
        IndexCorrupt: a file is missing, truncated or altered (``verify`` "full" compares sha256).
        IndexMismatch: the encoder or the passages are not those of the index.
    """
    index_dir = Path(index_dir)
    folder = live_generation(index_dir)
    manifest = Manifest.load(folder)
    _same_corpus(PassageStore.open(index_dir / CORPUS, verify=verify), manifest, index_dir)
    if manifest.kind in SPARSE:
        manifest.verify(folder, level=verify)
        retriever = SPARSE[manifest.kind].load(folder / SPARSE_FOLDER)
        manifest.require(index_dir, corpus_digest=retriever.corpus_digest)
        return retriever
    index = open_index(index_dir, verify=verify)
    return DenseRetriever(encoder or _load_encoder(manifest, index_dir, device), index, allow_stale=allow_stale)


def open_store(index_dir: Path | str, *, verify: Verify = "size") -> PassageStore:
    """The passages of an index directory.

    Raises:
        InputError: there is no index.
        IndexCorrupt: a file of the store is missing, truncated or altered.
        IndexMismatch: the passages are not those that the live generation was made from.
    """
    index_dir = Path(index_dir)
    manifest = Manifest.load(live_generation(index_dir))
    store = PassageStore.open(index_dir / CORPUS, verify=verify)
    _same_corpus(store, manifest, index_dir)
    return store


def _same_corpus(store: PassageStore, manifest: Manifest, index_dir: Path) -> None:
    if len(store) != manifest.count:
        raise IndexMismatch(
            f"the index in {index_dir} has {manifest.count} rows and {store.folder} has {len(store)} passages; "
            f"build it again from its corpus: ragkit index corpus=FILE out={index_dir} overwrite=true"
        )
    manifest.require(index_dir, corpus_digest=store.digest)


def _load_encoder(manifest: Manifest, index_dir: Path, device: str) -> DualEncoder:
    made_by = manifest.encoder
    if made_by is None or not made_by.recipe.get("model"):
        raise IndexMismatch(
            f"the manifest of {index_dir} does not say how to load its encoder; open it from Python with "
            "open_retriever(index_dir, encoder=...)"
        )
    return DualEncoder.from_pretrained(**made_by.recipe, device=device)
