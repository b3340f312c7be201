"""What kind of index to build: one frozen record, checked when it is made."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ragkit.errors import ConfigError

METRICS = ("inner_product", "cosine")
DTYPES = ("float32", "float16")

_SEARCH = re.compile(r"^(\w+=\d+(\.\d+)?(,\w+=\d+(\.\d+)?)*)?$")
_POINTS_PER_LIST = 39  # FAISS warns when it has fewer vectors than this to place a list's centre


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """What to build of a set of vectors.

    ``kind`` is ``flat`` (exact), ``ivf``, ``hnsw``, or any string of FAISS's index factory that takes inner
    products (``"SQfp16"``, ``"IVF1024,SQ8"``). ``metric`` ``cosine`` is the inner product of the vectors
    divided by their lengths; a zero vector scores 0. ``dtype`` is how the vector files are written; a float16
    file halves the disk and rounds each number by at most 5e-4 of itself.

    ``nlist`` is the number of lists of ``ivf`` (None: 4 sqrt(count), at most one for every 39 vectors),
    ``links`` and ``ef_construction`` are HNSW's graph. ``search`` sets what FAISS's ParameterSpace knows, at
    search time: ``"nprobe=64"``, ``"efSearch=128"``, ``"nprobe=16,k_factor_rf=10"``. ``train_rows`` vectors,
    evenly spaced, train the kinds that need training.

    >>> IndexSpec("ivf", nlist=128, search="nprobe=16").factory(100_000)
    'IVF128,Flat'
    """

    kind: str = "flat"
    metric: str = "inner_product"
    dtype: str = "float32"
    nlist: int | None = None
    links: int = 32
    ef_construction: int = 80
    search: str = ""
    train_rows: int = 131_072

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigError(f"unknown metric {self.metric!r}; choose from {sorted(METRICS)}")
        if self.dtype not in DTYPES:
            raise ConfigError(f"unknown dtype {self.dtype!r} of vector files; choose from {sorted(DTYPES)}")
        if not self.kind or (self.kind not in KINDS and self.kind[0].islower()):
            raise ConfigError(
                f"unknown index kind {self.kind!r}; choose from {sorted(KINDS)} "
                "or give a FAISS factory string such as 'IVF1024,SQ8'"
            )
        if not _SEARCH.match(self.search):
            raise ConfigError(f"search must read like 'nprobe=64' or 'efSearch=128,...', not {self.search!r}")
        sizes = {"links": self.links, "ef_construction": self.ef_construction, "train_rows": self.train_rows}
        if self.nlist is not None:
            sizes["nlist"] = self.nlist
        for name, size in sizes.items():
            if size < 1:
                raise ConfigError(f"{name} must be at least 1, not {size}")

    @property
    def is_exact(self) -> bool:
        """True where every vector is compared in full precision."""
        return self.kind in {"flat", "Flat"}

    @property
    def parameters(self) -> dict[str, Any]:
        """The fields that the manifest keeps beside kind, metric and dtype."""
        return {name: value for name, value in asdict(self).items() if name not in {"kind", "metric", "dtype"}}

    def factory(self, count: int) -> str:
        """The string for FAISS's index factory, for ``count`` vectors."""
        build = KINDS.get(self.kind)
        return build(self, count) if build else self.kind


def _ivf(spec: IndexSpec, count: int) -> str:
    nlist = spec.nlist or max(1, min(round(4 * math.sqrt(count)), count // _POINTS_PER_LIST))
    if nlist > count:
        raise ConfigError(f"nlist={nlist} lists need at least as many vectors, and there are {count}; lower nlist")
    return f"IVF{nlist},Flat"


KINDS: dict[str, Callable[[IndexSpec, int], str]] = {
    "flat": lambda _spec, _count: "Flat",
    "ivf": _ivf,
    "hnsw": lambda spec, _count: f"HNSW{spec.links},Flat",
}
