"""Where to compute, and in which number format: bfloat16 only where the processor has it in hardware."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch

from ragkit.errors import ConfigError

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_device(name: str = "auto") -> torch.device:
    """The device called ``name`` ("cpu", "cuda", "cuda:1", "mps"); "auto" is the fastest there is.

    Under torchrun ``cuda`` and ``auto`` mean the GPU of this process (LOCAL_RANK). ConfigError where it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {name!r}; choose auto, cpu, cuda, cuda:0, ... or mps") from error
    if device.type == "cuda":
        return _cuda(device)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device mps is not available here; use device=auto or device=cpu")
    return device


def _cuda(device: torch.device) -> torch.device:
    if not torch.cuda.is_available():
        raise ConfigError("device cuda is not available here (no GPU, or a torch built without CUDA); use device=auto")
    index = device.index if device.index is not None else int(os.environ.get("LOCAL_RANK", "0"))
    if index >= torch.cuda.device_count():
        raise ConfigError(f"device cuda:{index} does not exist; there are {torch.cuda.device_count()} GPUs")
    return torch.device("cuda", index)


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """What the processor says it can do (Linux: the flags of /proc/cpuinfo; empty elsewhere)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    return frozenset(
        next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), [])
    )


def has_bfloat16(device: torch.device) -> tuple[bool, str]:
    """Whether ``device`` multiplies bfloat16 in hardware, and how that is known."""
    if device.type == "cuda":
        has = torch.cuda.is_bf16_supported(including_emulation=False)
        return has, f"{torch.cuda.get_device_name(device)} {'has' if has else 'lacks'} bfloat16"
    if device.type == "cpu":
        found = sorted({"amx_bf16", "avx512_bf16"} & cpu_flags())
        return bool(found), f"the processor has {', '.join(found)}" if found else "the processor lacks bfloat16"
    return False, f"bfloat16 is not used on {device.type}"


def resolve_dtype(name: str = "auto", device: torch.device | None = None) -> torch.dtype:
    """The number format called ``name``; "auto" is bfloat16 where the hardware has it, float32 otherwise.

    The choice and its reason are logged. bfloat16 asked for by name without hardware for it works, slowly, with a
    warning.
    """
    device = device or torch.device("cpu")
    has, reason = has_bfloat16(device)
    if name == "auto":
        dtype = torch.bfloat16 if has else torch.float32
        log.info("computing in %s on %s: %s", str(dtype).removeprefix("torch."), device, reason)
        return dtype
    if name not in DTYPES:
        raise ConfigError(f"unknown dtype {name!r}; choose from {['auto', *sorted(DTYPES)]}")
    if name == "bfloat16" and not has:
        log.warning("bfloat16 on %s will be slow: %s; dtype=auto would take float32", device, reason)
    return DTYPES[name]


@contextlib.contextmanager
def autocast(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Matrix products in ``dtype`` inside the block; nothing changes for float32."""
    if dtype == torch.float32:
        yield
        return
    with torch.autocast(device_type=device.type, dtype=dtype):
        yield
