"""A reader that is trained and asked encodes each passage once an update, and nobody can tell by the numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import BartConfig, BartForConditionalGeneration

from ragkit.corpus import PassageStore
from ragkit.errors import ConfigError
from ragkit.feedback import attention, leave_one_out, likelihood
from ragkit.losses import distillation_kl, marginal_nll
from ragkit.reader.fid import FusionReader
from ragkit.reader.fido import convert
from ragkit.reader.fusion import Memory
from ragkit.reader.seq2seq import Seq2SeqWeights
from ragkit.refresh import clone_index
from ragkit.training import atlas
from ragkit.training.atlas import AtlasBatch, AtlasOptions, AtlasTask
from ragkit.training.finding import NULL_PASSAGE, FindingOptions, Found
from ragkit.training.loop import train
from ragkit.training.modules import has_dropout, set_dropout
from ragkit.training.objectives import FeedbackObjective, GoldObjective, ObjectiveSum, Retrieved, Weighted
from ragkit.training.policy import ComputePolicy, OptimizerPolicy, SavePolicy, TrainPolicy
from ragkit.training.refresh import Refresher
from ragkit.training.refresh_policy import RefreshPolicy, StalenessPolicy
from ragkit.training.teaching import TeachingOptions

from .answers_place import load_script

EMDR2 = FeedbackObjective(likelihood, partial(marginal_nll, temperature=0.3))
LDIST = FeedbackObjective(likelihood, partial(distillation_kl, temperature=0.3))
LOOL = FeedbackObjective(leave_one_out, partial(distillation_kl, temperature=0.3))
ADIST = FeedbackObjective(attention, partial(distillation_kl, temperature=0.3))
SUM = ObjectiveSum({"ldist": Weighted(LDIST), "lool": Weighted(LOOL, 0.5), "gold": Weighted(GoldObjective())})


class Setting:
    """A small world with its index, and tasks that train both models on copies of it."""

    def __init__(self, scripts: Path, folder: Path) -> None:
        worlds, self.models = (load_script(scripts / f"answers_{name}.py") for name in ("world", "models"))
        self.folder = folder
        self.world = worlds.make_world(worlds.Size(entities=40, words=12, name=2, values=10))
        worlds.make_index(folder / "index", self.models.make_retriever(self.world, dim=16), self.world.passages)

    def reader(self, kind: str = "fid") -> FusionReader:
        reader: FusionReader = self.models.make_reader(self.world, dim=32)
        if kind == "fid":
            return reader
        weights = Seq2SeqWeights(convert(reader.model, kv_heads=1), reader.tokenizer, reader.options, reader.generation)
        return FusionReader(weights, device="cpu", dtype="float32")

    def task(
        self, name: str, *, objective: Any, reader: FusionReader, reader_k: int | None = None, **teaching: Any
    ) -> AtlasTask:
        index = self.folder / name / "index"
        encoder = self.models.make_retriever(self.world, dim=16)
        clone_index(self.folder / "index", index)
        policy = RefreshPolicy(schedule="2", staleness=StalenessPolicy(queries=0))
        live = Refresher(policy, index, encoder, PassageStore.open(index / "corpus"))
        options = AtlasOptions(FindingOptions(k=4, reader_k=reader_k), TeachingOptions(reader="trained", **teaching))
        taught, _ = self.world.split()
        return AtlasTask(encoder, reader, train=taught, live=live, objective=objective, options=options)

    def batch(self) -> AtlasBatch:
        """Questions with four passages, with an empty one among them, with one alone, with an empty one, with none."""
        p, items = self.world.passages, self.world.examples[:5]
        lines = [[*items[0].positives[:1], *p[5:8]], [p[9], NULL_PASSAGE, p[10]], [p[3]], [NULL_PASSAGE], []]
        rows = np.full((5, 4), -1, dtype=np.int64)
        return AtlasBatch(items, Found(lines, rows), [item.answers[0] for item in items])


@pytest.fixture(scope="module")
def setting(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(root / "scripts", tmp_path_factory.mktemp("sharing"))


def unshared(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on no task shares encodings."""
    monkeypatch.setattr(atlas, "encodes_alike", lambda _: False)


def encodings(reader: FusionReader) -> list[int]:
    """Fills with the number of inputs in each pass of the reader's encoder."""
    seen: list[int] = []
    encoder: nn.Module = reader.model.get_encoder()  # type: ignore[operator]
    hook = lambda _, args, given: seen.append(len(given["input_ids"]))  # noqa: ARG005, E731  a hook's arguments
    encoder.register_forward_pre_hook(hook, with_kwargs=True)
    return seen


def updated(task: AtlasTask, batch: AtlasBatch, *, only: str = "") -> dict[str, float]:
    """One update's figures; its gradients (of one model's loss alone, if ``only``) are in both models."""
    for module in task.modules.values():
        module.train()
        module.zero_grad(set_to_none=True)
    figures = {}
    for name, loss, _ in task._losses(batch):
        figures[name] = float(loss.detach())
        if not only or name == only:
            loss.backward()  # type: ignore[no-untyped-call]
    return figures


def gradients(task: AtlasTask) -> dict[str, Tensor]:
    named = [(f"{name}.{key}", p) for name, m in task.modules.items() for key, p in m.named_parameters()]
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


@pytest.mark.parametrize("kind", ["fid", "fido"])
@pytest.mark.parametrize("reader_k", [None, 2])
@pytest.mark.parametrize("objective", [EMDR2, LOOL, ADIST, SUM], ids=["emdr2", "lool", "adist", "ldist+lool+gold"])
def test_losses_and_gradients_are_those_of_encoding_twice(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, objective: Any, reader_k: int | None, kind: str
):
    """Silent failure: states that go to another passage's place, or feedback of the passages that are read alone."""
    task = setting.task(f"equal {kind} {reader_k}", objective=objective, reader=setting.reader(kind), reader_k=reader_k)
    task.live.close()
    shared, found = updated(task, setting.batch()), gradients(task)
    unshared(monkeypatch)
    twice, wanted = updated(task, setting.batch()), gradients(task)
    assert shared == pytest.approx(twice, rel=1e-5)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-5, rtol=1e-4, msg=name)
    assert max(gradient.abs().max() for name, gradient in found.items() if name.startswith("retriever")) > 1e-4
    batch = setting.batch()
    swapped = [list(reversed(batch.found.passages[0])), *batch.found.passages[1:]]
    other = updated(task, AtlasBatch(batch.items, Found(swapped, batch.found.rows), batch.answers))
    if reader_k:  # the control: the passages' places count
        assert other["reader_loss"] != pytest.approx(twice["reader_loss"], rel=1e-4)


def test_a_passage_is_encoded_once_an_update_and_twice_with_dropout(setting: Setting, monkeypatch: pytest.MonkeyPatch):
    """Silent failure: sharing that never happens, or that takes an encoding with dropout for feedback without."""
    batch = setting.batch()
    whole = AtlasBatch(
        batch.items[:2], Found([list(setting.world.passages[:4])] * 2, batch.found.rows[:2]), batch.answers[:2]
    )
    reader = setting.reader()
    task = setting.task("count", objective=ObjectiveSum({"a": Weighted(LDIST), "b": Weighted(LOOL)}), reader=reader)
    task.live.close()
    few = setting.task("count few", objective=EMDR2, reader=reader, reader_k=3)
    few.live.close()
    seen = encodings(reader)

    def passes(task: AtlasTask) -> list[int]:
        for module in task.modules.values():
            module.train()
        seen.clear()
        task.backward(whole, backward=lambda loss: loss.backward())  # type: ignore[no-untyped-call]
        return list(seen)

    assert passes(task) == [8]
    assert passes(few) == [6, 2]  # the three that are read, with gradient; the fourth without
    set_dropout(reader, 0.1)
    assert passes(task) == [8, 8]  # the two signals share one all the same
    assert passes(few) == [8, 6]
    set_dropout(reader, 0.0)
    unshared(monkeypatch)
    assert passes(task) == [8, 8]


def test_a_run_may_set_the_readers_dropout_and_only_such_a_run_depends_on_it(setting: Setting):
    """Silent failure: a key that no run had before, for which every checkpoint written so far would be refused."""
    reader = setting.reader()
    set_dropout(reader, 0.1)
    task = setting.task("as it comes", objective=EMDR2, reader=reader)
    assert has_dropout(reader)
    assert "reader_dropout" not in task.settings
    task.live.close()
    task = setting.task("without", objective=EMDR2, reader=reader, reader_dropout=0.0)
    assert not has_dropout(reader)
    assert task.settings["reader_dropout"] == 0.0
    task.live.close()
    with pytest.raises(ConfigError, match="from 0 to below 1"):
        TeachingOptions(reader="trained", reader_dropout=1.0)
    with pytest.raises(ConfigError, match="of a reader that learns"):
        TeachingOptions(reader_dropout=0.0)


class Leaky:
    """The mutation: an objective that reads the memory it is given with gradient."""

    n_signals = 1
    settings: Any = {}

    def check(self, *_: Any) -> None: ...

    def __call__(self, found: Retrieved) -> Tensor:
        reader: Any = found.reader
        assert found.asked.memory is not None
        loss: Tensor = reader.nll(found.asked.memory, found.asked.answers)
        return loss + 0.0 * found.query_vectors.sum()


def test_the_retrievers_loss_does_not_reach_the_encoder_through_what_is_shared(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
):
    """Silent failure: a reader that learns to find its own feedback likely. A leaking loss ends at the memory too."""
    task = setting.task("isolated", objective=SUM, reader=setting.reader())
    task.live.close()
    updated(task, setting.batch(), only="retriever_loss")
    assert {name.split(".")[0] for name in gradients(task)} == {"retriever"}
    updated(task, setting.batch(), only="reader_loss")
    assert {name.split(".")[0] for name in gradients(task)} == {"reader"}

    batch = setting.batch()
    alike = AtlasBatch(batch.items[:1], Found(batch.found.passages[:1], batch.found.rows[:1]), batch.answers[:1])

    def reaches_encoder() -> bool:
        updated(task, alike, only="retriever_loss")
        return any(name.startswith("reader.model.encoder.block") for name in gradients(task))

    task.objective = Leaky()
    assert not reaches_encoder()
    monkeypatch.setattr(Memory, "detached", lambda self: self)
    assert reaches_encoder()


def _policy(steps: int, *, save_every: int = 100) -> TrainPolicy:
    return TrainPolicy(
        steps=steps,
        batch_size=4,
        compute=ComputePolicy(device="cpu", dtype="float32"),
        optimizer=OptimizerPolicy(learning_rate=0.01, schedule="constant", warmup=1),
        save=SavePolicy(eval_every=1000, metric=None, log_every=1, save_every=save_every),
    )


def test_a_run_and_a_resumed_one_have_the_losses_of_encoding_twice(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, toy: Any
):
    """Silent failure: encodings of the update before, which a run of one update cannot show."""

    def run(name: str, *, cut: bool = False) -> dict[int, float]:
        task = setting.task(name, objective=SUM, reader=setting.reader(), reader_k=3)
        if cut:
            task.begin = _dying(task.begin, 3)  # type: ignore[method-assign]
            with pytest.raises(KeyboardInterrupt):
                train(task, _policy(5, save_every=2), setting.folder / name)
            task = setting.task(name, objective=SUM, reader=setting.reader(), reader_k=3)
        train(task, _policy(5, save_every=2), setting.folder / name)
        losses: dict[int, float] = toy.losses(setting.folder / name)
        return losses

    whole, cut = run("whole"), run("cut", cut=True)
    unshared(monkeypatch)
    twice = run("twice")
    assert cut == whole
    assert whole == pytest.approx(twice, rel=1e-4)
    assert len(set(whole.values())) == 5  # the control: losses that move


def _dying(begin: Callable[[int], Any], last: int) -> Callable[[int], Any]:
    def begins(update: int) -> Any:
        if update == last:
            raise KeyboardInterrupt
        return begin(update)

    return begins


@pytest.mark.parametrize("rate", ["dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop"])
def test_every_rate_of_a_model_counts_as_dropout(rate: str):
    """Silent failure: BART's rates are plain numbers of its layers, and a look at nn.Dropout alone finds none."""
    none = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0)
    small = {"vocab_size": 9, "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 8}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}

    def made(**rates: float) -> BartForConditionalGeneration:
        options: dict[str, Any] = {**small, **heads, **none, **rates}
        return BartForConditionalGeneration(BartConfig(**options))

    assert not has_dropout(made())
    assert has_dropout(made(**{rate: 0.1}))
    assert has_dropout(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)))
