"""GGUF files as folders that transformers opens: converted once, kept in a cache."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

import torch

from ragkit.errors import MissingPackage, ModelNotFound
from ragkit.failpoints import failpoint
from ragkit.text.models import quiet

log = logging.getLogger(__name__)
_MARK = "ragkit-gguf.json"
_VERSION = 1


def cache_folder() -> Path:
    """Where ragkit keeps what it can make again: ``RAGKIT_CACHE``, or ``~/.cache/ragkit``."""
    return Path(os.environ.get("RAGKIT_CACHE") or Path.home() / ".cache" / "ragkit").expanduser()


def find_gguf(path: Path) -> Path | None:
    """The GGUF file that ``path`` is, or the only one in a folder without a model of transformers; None otherwise."""
    if path.is_file():
        return path if path.suffix == ".gguf" else None
    if (path / "config.json").is_file():
        return None
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        raise ModelNotFound(f"{path} holds several GGUF files ({[f.name for f in files]}); give the path of one")
    return files[0] if files else None


def convert_gguf(file: Path) -> Path:
    """A folder with the model of a GGUF file, dequantized to float16, and its tokenizer.

    Keyed by the file's sha256, written aside and renamed: a second process or a later run finds it whole or not at
    all; a folder of which a file has lost its size is made again. float16 holds dequantized values to 1 in 2,000,
    far finer than they were quantized.

    Raises:
        ModelNotFound: transformers cannot read the file.
        MissingPackage: the package ``gguf`` is not installed.
    """
    digest = _sha256(file)
    target = cache_folder() / "gguf" / f"{digest[:32]}-{_VERSION}"
    if _is_whole(target):
        return target
    if importlib.util.find_spec("gguf") is None:
        raise MissingPackage(f'{file.name} is a GGUF file, which needs the package gguf: pip install "ragkit[causal]"')
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=target.parent))
    try:
        log.info("converting %s to %s, once", file, target)
        _write(file, aside, digest=digest)
        failpoint("gguf-written")
        _publish(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _write(file: Path, folder: Path, *, digest: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415  slow

    with quiet(), contextlib.redirect_stderr(io.StringIO()):  # a bar of its own, which quiet() does not reach
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
            model = AutoModelForCausalLM.from_pretrained(
                str(file.parent),
                gguf_file=file.name,
                dtype=torch.float16,
                quantization_config=GgufConfig(dequantize=True),
            )
        except (OSError, ValueError, KeyError, IndexError, NotImplementedError) as error:
            raise ModelNotFound(f"{file} is not a GGUF file that transformers can read: {error}") from error
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    mark = {"source": file.name, "sha256": digest, "sizes": sizes}
    (folder / _MARK).write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")


def _publish(aside: Path, target: Path) -> None:
    """Rename ``aside`` to ``target``; what another process put there meanwhile is as good."""
    if target.exists() and not _is_whole(target):
        shutil.rmtree(target, ignore_errors=True)
    try:
        aside.rename(target)
    except OSError:
        if not _is_whole(target):
            raise


def _is_whole(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _MARK).read_text(encoding="utf-8"))["sizes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
