"""Of bench_fid.py: a decoding step of FiDO against one of FiD."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rounds import CLOCKS, Figures, ratios


def bench_fido(options: argparse.Namespace) -> Figures:
    """Decoding steps of FiD and of FiDO in several shapes in turn, for several numbers of passages."""
    from torch import nn

    from ragkit.reader.fido import cache_factor, convert

    models = {"fid": base_t5()}
    shapes = [(3, 1)] if options.quick else [(3, 1), (1, 1), (3, 12), (2, 2), (6, 1), (12, 1)]
    for period, kv_heads in shapes:
        fido: Any = convert(models["fid"], period=period, kv_heads=kv_heads)
        fido.encoder = nn.Identity()  # the passages are given encoded
        models[f"{period},{kv_heads}"] = fido
    rows: list[Figures] = []
    figures: Figures = {}
    for n in (100,) if options.quick else (100, 40, 10):
        found = decode(models, n_passages=n, rounds=5, steps=4, clock=CLOCKS[options.clock])
        slow = found["fid"]
        for period, kv_heads in shapes:
            fast = found[f"{period},{kv_heads}"]
            shape = {"period": period, "kv_heads": kv_heads, "passages": n}
            shape["cache_factor"] = round(cache_factor(models[f"{period},{kv_heads}"], 12), 1)
            medians = {"fid_ms": 1000 * statistics.median(slow), "fido_ms": 1000 * statistics.median(fast)}
            rounded = {name: round(value, 1) for name, value in medians.items()}
            rows.append(shape | rounded | ratios(slow, fast, "ratio"))
            if (period, kv_heads, n) == (3, 1, 100):
                figures = ratios(slow, fast, "fido_vs_fid_decode")
    _print_decoding(rows)
    if options.plot:
        _plot(rows, options.plot)
    return figures | {"fido_table": rows}


def base_t5() -> Any:
    """T5-base's shape with random weights."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12, decoder_start_token_id=0)
    return T5ForConditionalGeneration(config).eval()


@torch.inference_mode()
def decode(
    models: dict[str, Any], *, n_passages: int, rounds: int, steps: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of one decoding step of each model, the mean of ``steps`` in each round; 200 tokens a passage, cached."""
    from transformers.modeling_outputs import BaseModelOutput

    from ragkit.reader.cache_name import cache_argument, cache_of

    memory = torch.randn(1, 200 * n_passages, 768)
    inputs = {
        "encoder_outputs": BaseModelOutput(last_hidden_state=memory),
        "attention_mask": torch.ones(1, 200 * n_passages, dtype=torch.long),
        "decoder_input_ids": torch.zeros(1, 1, dtype=torch.long),
        "use_cache": True,
    }
    caches = {name: cache_of(model(**inputs)) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds + 1):  # the first round warms up
        for name, model in models.items():
            started = clock()
            for _ in range(steps):
                model(**inputs, **cache_argument(caches[name]))
            seconds[name].append((clock() - started) / steps)
    return {name: found[1:] for name, found in seconds.items()}


def _print_decoding(rows: list[Figures]) -> None:
    table = Table(title="one decoding step, T5-base's size, 200 tokens a passage, one question")
    for heading in ("period", "kv heads", "passages", "FiD ms", "FiDO ms", "faster", "range", "cache smaller"):
        table.add_column(heading, justify="right")
    for row in sorted(rows, key=lambda row: (row["period"], row["kv_heads"], row["passages"])):
        low, high = row["ratio_range"]
        cells = [str(row["period"]), str(row["kv_heads"]), str(row["passages"])]
        cells += [f"{row['fid_ms']:.1f}", f"{row['fido_ms']:.1f}", f"{row['ratio']:.2f}x", f"{low:.2f} to {high:.2f}"]
        table.add_row(*cells, f"{row['cache_factor']:.0f}x")
    Console(width=120).print(table)


def _plot(rows: list[Figures], file: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.fonttype"] = "none"  # text stays text
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    lines = {"FiD": [(row["passages"], row["fid_ms"]) for row in rows]}
    for row in sorted(rows, key=lambda row: (-row["kv_heads"], row["period"])):
        heads = f"{row['kv_heads']} head{'s' * (row['kv_heads'] > 1)} of keys and values"
        name = f"FiDO, period {row['period']}, {heads}"
        lines.setdefault(name, []).append((row["passages"], row["fido_ms"]))
    for name, points in lines.items():
        counts = sorted({n for n, _ in points})
        values = [statistics.median(ms for n, ms in points if n == count) for count in counts]
        axes.plot(counts, values, marker="o", label=name, linewidth=2.5 if name == "FiD" else 1.5)
    axes.set(xlabel="passages of 200 tokens", ylabel="milliseconds a decoding step", ylim=(0, None))
    axes.legend(fontsize=8, loc="center right", bbox_to_anchor=(1.0, 0.58))
    figure.tight_layout()
    figure.savefig(file)
