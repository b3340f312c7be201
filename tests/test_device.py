"""ragkit.device."""

from __future__ import annotations

import logging

import pytest
import torch

from ragkit import device
from ragkit.errors import ConfigError

CPU = torch.device("cpu")


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch):
    def set_flags(*names: str) -> None:
        monkeypatch.setattr(device, "cpu_flags", lambda: frozenset(names))

    return set_flags


def test_auto_takes_bfloat16_only_where_the_processor_has_it(flags, caplog: pytest.LogCaptureFixture):
    """Emulated bfloat16 is several times slower than float32, and nothing says so."""
    with caplog.at_level(logging.INFO, logger="ragkit.device"):
        flags("avx2", "avx512f")
        assert device.resolve_dtype("auto", CPU) == torch.float32
        assert "float32 on cpu: the processor lacks bfloat16" in caplog.text
        for name in ("amx_bf16", "avx512_bf16"):
            flags("avx2", name)
            assert device.resolve_dtype("auto", CPU) == torch.bfloat16
            assert f"bfloat16 on cpu: the processor has {name}" in caplog.text


def test_a_dtype_by_name_is_taken_with_a_warning_where_it_is_slow(flags, caplog: pytest.LogCaptureFixture):
    """Who asks for bfloat16 gets it."""
    flags("avx2")
    with caplog.at_level(logging.WARNING, logger="ragkit.device"):
        assert device.resolve_dtype("float32", CPU) == torch.float32
        assert not caplog.text
        assert device.resolve_dtype("bfloat16", CPU) == torch.bfloat16
    assert "slow" in caplog.text


def test_unknown_names_list_the_choices():
    """A typing mistake is not a device."""
    with pytest.raises(ConfigError, match=r"choose from \['auto', 'bfloat16', 'float32'\]"):
        device.resolve_dtype("float61", CPU)
    with pytest.raises(ConfigError, match="unknown device"):
        device.resolve_device("gpu9000")


def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch):
    """And the GPU of this process under torchrun: two processes on GPU 0 halve the speed in silence."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.resolve_device("auto") == CPU
    with pytest.raises(ConfigError, match="cuda is not available"):
        device.resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device.resolve_device("auto") == torch.device("cuda", 1)
    assert device.resolve_device("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(ConfigError, match="there are 2 GPUs"):
        device.resolve_device("cuda:2")


def test_autocast_multiplies_in_the_dtype_and_does_nothing_for_float32():
    """A context that did nothing would train in float32 and only be slow."""
    a = torch.ones(2, 2)
    with device.autocast(CPU, torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
    with device.autocast(CPU, torch.float32):
        assert (a @ a).dtype == torch.float32
