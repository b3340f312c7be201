"""Pickled vectors (DPR, FiD, Contriever, Tevatron): recognised, refused, and the way out of them."""

from __future__ import annotations

from pathlib import Path

# protocols 2 to 5 begin with PROTO and their number; protocols 0 and 1 by what a list, tuple or dict begins with
_STARTS = (
    b"\x80\x02",
    b"\x80\x03",
    b"\x80\x04",
    b"\x80\x05",
    b"(lp",
    b"(dp",
    b"]q",
    b"}q",
    b"(cnumpy",
    b"cnumpy",
    b"((lp",
    b"(]q",
)

# The reader it defines builds arrays, numbers and texts only: any other thing that a pickle names is an error.
TO_NPY = """\
import pickle, sys
import numpy as np

class Arrays(pickle.Unpickler):
    def find_class(self, module, name):
        if module.partition(".")[0] in {"numpy", "_codecs"} and name in {
            "ndarray", "dtype", "scalar", "_reconstruct", "_frombuffer", "encode"
        }:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"refused {module}.{name}")

found = Arrays(open(sys.argv[1], "rb")).load()
first, second = zip(*found) if isinstance(found, list) else found
ids, vectors = (second, first) if np.ndim(first) == 2 else (first, second)
np.save(sys.argv[1] + ".npy", np.asarray(vectors, dtype="float32"))
open(sys.argv[1] + ".ids.txt", "w").write("".join(f"{name}\\n" for name in ids))
"""


def is_pickle(start: bytes) -> bool:
    """Whether a file that starts so is a Python pickle."""
    return start.startswith(_STARTS)


def refusal(path: Path) -> str:
    """Why a pickle is not read and how its vectors become ``.npy``, in the user's words."""
    return (
        f"{path} is a pickle, which can run any code when it is opened: ragkit reads none. If it holds vectors (DPR, "
        "FiD, Contriever or Tevatron), save the lines below as to_npy.py and run:\n"
        f"  python to_npy.py {path}\n"
        f"They open arrays and nothing else, and write {path.name}.npy and {path.name}.ids.txt:\n\n{TO_NPY}"
    )
