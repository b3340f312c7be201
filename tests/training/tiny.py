"""A tiny dual encoder and questions for it; as a script, a step's gradient over the processes of torchrun.

Usage: tiny.py MODEL OUT
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ragkit import distributed
from ragkit.retriever import DualEncoder
from ragkit.seeding import make_generator
from ragkit.training.batches import BatchPlan
from ragkit.training.dpr import DprOptions, DprTask
from ragkit.types import Example, Passage

TOPICS = ["fox", "river", "hill", "stone", "dog", "north", "south", "king", "bread", "ship", "moon", "gold"]
THEMES = [[f"t{theme}w{word}" for word in range(6)] for theme in range(12)]  # words that go together
FILLERS = ["the", "a", "red", "blue", "green", "old", "new", "of", "in", "was", "long", "who", "what", "where"]
CASES = [(0, 8), (3, 8), (0, 7), (3, 7)]  # the chunk of GradCache (0: none), the questions of the step


def write_model(folder: Path, *, dropout: float = 0.1) -> Path:
    """A BERT of two layers and 32 dimensions with random weights, as transformers saves it."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *TOPICS, *FILLERS, *sum(THEMES, [])])
    )
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.random.set_rng_state(make_generator(0, "model").get_state())
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=256,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        BertModel(config).save_pretrained(folder)
    return folder


def encoder(folder: Path, *, shared: bool | None = None) -> DualEncoder:
    return DualEncoder.from_pretrained(str(folder), shared=shared, device="cpu", dtype="float32")


def questions(count: int = 24, *, seed: int = 0, negatives: int = 2) -> list[Example]:
    """Questions on two topics each, whose passages name both; a hard negative names one of them."""
    generator = make_generator(seed, "questions")

    def words(topics: Sequence[str], length: int) -> str:
        picked = torch.randint(len(FILLERS), (length,), generator=generator).tolist()
        filler = [FILLERS[place] for place in picked]
        for topic in topics:
            filler.insert(int(torch.randint(len(filler), (), generator=generator)), topic)
        return " ".join(filler)

    found = []
    for number in range(count):
        first, second = torch.randperm(len(TOPICS), generator=generator)[:2].tolist()
        topics = [TOPICS[first], TOPICS[second]]
        positives = [Passage(f"p{number}.{i}", words(topics, 6 + number % 7), "") for i in range(2)]
        wrong = [Passage(f"n{number}.{i}", words(topics[:1], 9), "") for i in range(negatives)]
        found.append(Example(str(number), words(topics, 4), (topics[0],), tuple(positives), tuple(wrong)))
    return found


def themed_texts(count: int, *, seed: int = 0) -> list[str]:
    """Texts of 16 words, of one theme and of filler; text i has theme i modulo 12."""
    generator = make_generator(seed, "texts")

    def word(number: int) -> str:
        if float(torch.rand((), generator=generator)) < 0.3:
            return FILLERS[int(torch.randint(len(FILLERS), (), generator=generator))]
        return THEMES[number % len(THEMES)][int(torch.randint(6, (), generator=generator))]

    return [" ".join(word(number) for _ in range(16)) for number in range(count)]


def gradient(task: DprTask, *, size: int) -> tuple[float, dict[str, list[float]]]:
    """The loss of the first ``size`` questions over all processes, and its gradient, with dropout off."""
    world, rank = distributed.world_size(), distributed.rank()
    plan = BatchPlan(size, size, seed=0)
    (indices,) = plan.shares(0, parts=1, rank=rank, world=world)
    items = [task.items[index] for index in indices.tolist()]
    batch = task.collate(items, generator=make_generator(0, "draw"))
    figures = task.backward(batch, backward=lambda loss: (loss * len(items) / size).backward())
    distributed.sum_gradients(task.encoder.parameters())
    (loss,) = distributed.sum_floats([figures["loss"] * len(items) / size])
    found = {name: p.grad.flatten().tolist() for name, p in task.encoder.named_parameters() if p.grad is not None}
    return loss, found


def main(words: Sequence[str]) -> None:
    torch.set_num_threads(1)
    distributed.start_processes(torch.device("cpu"), expected=2)
    found = {}
    for chunk, size in CASES:
        task = DprTask(encoder(Path(words[0])).eval(), train=questions(), options=DprOptions(chunk=chunk or None))
        loss, gradients = gradient(task, size=size)
        found[f"{chunk} {size}"] = {"loss": loss, "gradient": gradients}
    if distributed.is_main():
        Path(words[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
