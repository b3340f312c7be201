"""The task of generative readers in the training loop, over a tiny FiD and questions of a made-up world."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ragkit.binding import build
from ragkit.config import compose
from ragkit.corpus import write_examples
from ragkit.errors import CheckpointError, ConfigError, InputError
from ragkit.reader import ExtractiveReader
from ragkit.reader.fid import FusionReader
from ragkit.reader.generation import GenerationOptions
from ragkit.reader.open import open_reader
from ragkit.reader.prompts import FusionOptions
from ragkit.training.data import DataFiles
from ragkit.training.generative import GenerativeOptions, GenerativeReader, GenerativeTask
from ragkit.training.loop import Task, train
from ragkit.training.policy import ComputePolicy, OptimizerPolicy, SavePolicy, TrainPolicy
from ragkit.types import Example, Passage, ScoredPassage

INPUTS = FusionOptions(max_length=32, max_question=12)
SHORT = GenerationOptions(max_tokens=4)


@pytest.fixture(scope="module")
def lookup(root: Path) -> ModuleType:
    """scripts/lookup_world.py."""
    import importlib.util
    import sys

    spec = importlib.util.spec_from_file_location("lookup_world", root / "scripts" / "lookup_world.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["lookup_world"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def world(lookup: ModuleType):
    return lookup.make_world(names=6, values=6)


@pytest.fixture(scope="module")
def fid_dir(lookup: ModuleType, world, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny T5 with random weights; in float32 without dropout."""
    return lookup.write_model(tmp_path_factory.mktemp("fid"), world.words, dim=32, layers=(2, 2))


@pytest.fixture(scope="module")
def examples(lookup: ModuleType, world) -> list[Example]:
    """Twelve questions, each with its positive and four hard negatives, and the five as retrieved ones."""
    made = lookup.questions(world, world.seen[:9], distractors=4)[:12]
    return [
        replace(
            e, retrieved=tuple(ScoredPassage(p, -float(i)) for i, p in enumerate((*e.hard_negatives, *e.positives)))
        )
        for e in made
    ]


def _reader(folder: Path) -> FusionReader:
    return FusionReader.from_pretrained(str(folder), options=INPUTS, generation=SHORT, device="cpu", dtype="float32")


def _task(folder: Path, examples: list[Example], **options: object) -> GenerativeTask:
    return GenerativeTask(_reader(folder), train=examples, dev=examples, options=GenerativeOptions(**options))


def _policy(**changes: object) -> TrainPolicy:
    values: dict[str, object] = {
        "steps": 4,
        "batch_size": 6,
        "compute": ComputePolicy(device="cpu", dtype="float32"),
        "optimizer": OptimizerPolicy(learning_rate=3e-3),
        "save": SavePolicy(eval_every=100),
    }
    return TrainPolicy(**{**values, **changes})


def _generator(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _losses(out: Path) -> list[float]:
    return [line["loss"] for line in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "loss" in line]


def test_a_fusion_reader_and_its_task_are_what_the_loop_wants(fid_dir: Path, examples: list[Example]):
    task = _task(fid_dir, examples)
    assert isinstance(task, Task)
    assert isinstance(task.reader, GenerativeReader)


def test_training_learns_its_questions_and_writes_a_reader_that_answers_them(
    fid_dir: Path, examples: list[Example], tmp_path: Path
):
    """Guards against a loss that falls while what is written stays wrong (start or end tokens off by one)."""
    task = _task(fid_dir, examples, passages="gold", n_passages=2, order="shuffled")
    before = task.evaluate()
    save = SavePolicy(metric="exact_match", eval_every=80, log_every=10)
    result = train(
        task, _policy(steps=80, batch_size=12, optimizer=OptimizerPolicy(learning_rate=1e-2), save=save), tmp_path
    )
    assert before["exact_match"] == 0.0
    assert result.figures["exact_match"] == 1.0
    assert result.figures["nll"] < 0.2 * before["nll"]
    reader = open_reader(str(tmp_path), device="cpu", dtype="float32")
    found = reader.answer([e.question for e in examples], task._dev_passages)
    assert [prediction.text for prediction in found] == [e.answers[0] for e in examples]


def test_draws_depend_on_the_seed_and_the_item_alone(fid_dir: Path, examples: list[Example]):
    """Guards against passages and answers that differ between one process and two, or after a resumption."""
    several = [replace(e, answers=(*e.answers, "home", "trade", "pet")) for e in examples]
    task = _task(fid_dir, several, n_passages=[1, 5], order="shuffled")
    whole = task.collate(task.items, generator=_generator())
    part = task.collate(task.items[5:], generator=_generator())
    assert (whole.passages[5:], whole.answers[5:]) == (part.passages, part.answers)
    other = task.collate(task.items, generator=_generator(6))
    assert whole.passages != other.passages
    assert whole.answers != other.answers
    assert {len(line) for line in whole.passages} > {1, 5}
    assert set(whole.answers) & {"home", "trade", "pet"}


def _ids(passages: list[Passage]) -> list[str]:
    return [passage.id for passage in passages]


EXAMPLE = Example(
    "1",
    "who",
    ("a b", "a"),
    positives=(Passage("p1", "one a"), Passage("p2", "two a b"), Passage("p1 again", "one a"), Passage("bare", "")),
    hard_negatives=(Passage("n1", "no"), Passage("n2", "none")),
    retrieved=(ScoredPassage(Passage("r1", "far"), 3.0), ScoredPassage(Passage("p2", "two a b"), 2.0)),
)


@pytest.mark.parametrize(
    ("passages", "wanted"),
    [
        ("retrieved", ["r1", "p2"]),
        ("gold", ["p1", "p2", "n1", "n2"]),
        ("both", ["p1", "p2", "r1", "n1", "n2"]),
    ],
)
def test_passages_come_from_where_the_option_says_each_once(fid_dir: Path, passages: str, wanted: list[str]):
    task = _task(fid_dir, [EXAMPLE], passages=passages, n_passages=9)
    batch = task.collate(task.items, generator=_generator())
    assert _ids(batch.passages[0]) == wanted
    assert _ids([hit.passage for hit in task._dev_passages[0]]) == wanted
    assert {hit.passage.id: hit.score for hit in task._dev_passages[0]}["p2"] == 2.0
    assert task.counts.short == 1


def test_random_draws_keep_a_positive_and_the_order_listed_unless_shuffled(fid_dir: Path):
    """Guards against a question whose answer is nowhere to be read."""
    task = _task(fid_dir, [EXAMPLE], passages="both", n_passages=3, draw="random")
    drawn = [_ids(task.collate(task.items, generator=_generator(seed)).passages[0]) for seed in range(40)]
    listed = ["p1", "p2", "r1", "n1", "n2"]
    assert all({"p1", "p2"} & set(line) for line in drawn)
    assert all(line == sorted(line, key=listed.index) for line in drawn)
    assert set().union(*drawn) == set(listed)
    first = _task(fid_dir, [EXAMPLE], passages="both", n_passages=3, order="shuffled")
    shuffled = [_ids(first.collate(first.items, generator=_generator(seed)).passages[0]) for seed in range(40)]
    assert {frozenset(line) for line in shuffled} == {frozenset(listed[:3])}
    assert len({tuple(line) for line in shuffled}) == 6


def test_the_answer_is_the_files_target_or_drawn_as_asked(fid_dir: Path):
    def answers(example: Example, **options: object) -> set[str]:
        task = _task(fid_dir, [example], passages="gold", **options)
        return {task.collate(task.items, generator=_generator(seed)).answers[0] for seed in range(30)}

    assert answers(EXAMPLE) == {"a b", "a"}
    assert answers(EXAMPLE, answer="first") == {"a b"}
    assert answers(replace(EXAMPLE, target="z")) == {"z"}
    found = replace(EXAMPLE, answers=("a b", "nowhere", "..."))
    assert answers(found, answer="in_passages") == {"a b"}
    assert answers(replace(found, answers=("nowhere", "!")), answer="in_passages") == {"nowhere", "!"}


def test_closed_book_reads_no_passage_and_needs_none(fid_dir: Path, examples: list[Example], tmp_path: Path):
    bare = [replace(e, positives=(), hard_negatives=(), retrieved=()) for e in examples]
    task = _task(fid_dir, bare, n_passages=0)
    assert task.collate(task.items, generator=_generator()).passages == [[]] * 12
    result = train(task, _policy(steps=2), tmp_path)
    assert set(result.figures) == {"exact_match", "f1", "nll"}
    with pytest.raises(InputError, match=r"12 training questions can be used.*12 no passage"):
        _task(fid_dir, bare)


def test_questions_that_cannot_be_used_are_dropped_and_counted(fid_dir: Path, examples: list[Example], caplog):
    unusable = [replace(examples[0], answers=(" ", "\u200b")), replace(examples[1], retrieved=())]
    task = _task(fid_dir, [*unusable, *examples[2:]])
    assert (task.counts.kept, task.counts.without_answer, task.counts.without_passage) == (10, 1, 1)
    assert "dropped 1 questions" in caplog.text


def test_the_loss_is_the_readers_own_with_label_smoothing(fid_dir: Path, examples: list[Example]):
    smooth = _task(fid_dir, examples, label_smoothing=0.2)
    batch = smooth.collate(smooth.items, generator=_generator())
    seen: list[float] = []
    figures = smooth.backward(batch, backward=lambda loss: seen.append(loss.item()))
    wanted = smooth.reader.answer_nll(batch.questions, batch.passages, batch.answers, label_smoothing=0.2).item()
    plain = smooth.reader.answer_nll(batch.questions, batch.passages, batch.answers).item()
    assert figures["loss"] == seen[0] == pytest.approx(wanted)
    assert abs(wanted - plain) > 1e-2
    assert figures["passages"] == 5.0


def test_dev_nll_is_the_loss_of_the_first_answers(fid_dir: Path, examples: list[Example]):
    """Guards against a dev figure over other passages, other answers or other weights of questions than training's."""
    task = _task(fid_dir, examples)
    batch = task.collate(task.items, generator=_generator())
    with torch.no_grad():
        loss = task.reader.answer_nll(batch.questions, batch.passages, batch.answers).item()
    assert task.evaluate()["nll"] == pytest.approx(loss, rel=1e-4)
    limited = _task(fid_dir, examples, dev_questions=3, dev_passages=2)
    assert [len(line) for line in limited._dev_passages] == [2, 2, 2]


CHECKPOINTING = pytest.mark.filterwarnings("ignore:.*checkpointing:FutureWarning")  # transformers renames its method


@CHECKPOINTING
@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(fid_dir: Path, examples: list[Example], checkpointed: bool):
    """Guards against dropout drawn anew in the second forward, and checkpointing that is not on at all."""
    gradients = []
    for on in (False, checkpointed):
        task = _task(fid_dir, examples, gradient_checkpointing=on, dropout=0.2)
        assert any(getattr(module, "gradient_checkpointing", False) for module in task.reader.modules()) == on
        task.reader.train()
        batch = task.collate(task.items, generator=_generator())
        with torch.random.fork_rng():
            torch.random.set_rng_state(_generator(1).get_state())
            task.backward(batch, backward=lambda loss: loss.backward())
        gradients.append({name: p.grad for name, p in task.reader.named_parameters()})
    for name, wanted in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], wanted, msg=name)
    assert max(float(g.abs().max()) for g in gradients[0].values()) > 1e-3


def _moved(task: GenerativeTask, out: Path) -> set[str]:
    before = {name: parameter.detach().clone() for name, parameter in task.reader.named_parameters()}
    train(task, _policy(steps=2), out)
    return {name for name, parameter in task.reader.named_parameters() if not torch.equal(parameter, before[name])}


def test_a_frozen_encoder_and_frozen_layers_do_not_move(fid_dir: Path, examples: list[Example], tmp_path: Path):
    moved = _moved(_task(fid_dir, examples, frozen_layers=1), tmp_path / "layers")
    assert not any("shared" in name or "encoder.block.0." in name for name in moved)
    assert any("encoder.block.1." in name for name in moved)
    moved = _moved(_task(fid_dir, examples, frozen_encoder=True), tmp_path / "encoder")
    assert moved
    assert not any("encoder." in name or "shared" in name for name in moved)
    saved = load_file(next((tmp_path / "encoder" / "checkpoints").glob("step-*2")) / "reader.safetensors")
    assert set(saved) == moved  # frozen weights are not written
    moved = _moved(_task(fid_dir, examples, frozen_words=True), tmp_path / "words")
    assert "model.shared.weight" not in moved
    assert any("encoder.block.0." in name for name in moved)
    with pytest.raises(ConfigError, match="frozen_layers=9, but T5Stack has 2"):
        _task(fid_dir, examples, frozen_layers=9)


def test_dropout_is_set_in_every_place_and_0_makes_training_as_evaluation(fid_dir: Path, examples: list[Example]):
    """Guards against T5's attention, which keeps its dropout as a number, not as a module."""

    def losses(dropout: float) -> list[float]:
        task = _task(fid_dir, examples, dropout=dropout)
        batch = task.collate(task.items, generator=_generator())
        found = []
        for mode in (False, True, True):
            task.reader.train(mode)
            found.append(task.backward(batch, backward=lambda _: None)["loss"])
        return found

    assert np.ptp(losses(0.0)) < 1e-6
    evaluated, first, second = losses(0.3)
    assert min(abs(evaluated - first), abs(first - second)) > 1e-4


@CHECKPOINTING
def test_resuming_with_other_data_or_options_is_refused_and_dev_options_may_change(
    fid_dir: Path, examples: list[Example], tmp_path: Path
):
    train(_task(fid_dir, examples), _policy(steps=1), tmp_path)
    with pytest.raises(CheckpointError, match=r"task.data: the checkpoint has"):
        train(_task(fid_dir, [replace(examples[0], question="who"), *examples[1:]]), _policy(steps=1), tmp_path)
    with pytest.raises(CheckpointError, match=r"task.label_smoothing: the checkpoint has 0.0, this run 0.1"):
        train(_task(fid_dir, examples, label_smoothing=0.1), _policy(steps=1), tmp_path)
    assert train(_task(fid_dir, examples, dev_questions=2, gradient_checkpointing=True), _policy(steps=1), tmp_path)


def test_bfloat16_has_the_loss_of_float32_after_100_steps(
    lookup: ModuleType, world, examples: list[Example], tmp_path: Path
):
    """Within 2 %: guards against a softmax or a loss computed in bfloat16."""
    model, found = lookup.write_model(tmp_path / "model", world.words, dim=32, layers=(1, 1)), {}
    for dtype in ("float32", "bfloat16"):
        policy = _policy(steps=100, batch_size=4, compute=ComputePolicy(device="cpu", dtype=dtype))
        train(_task(model, examples, n_passages=2, dev_questions=1), policy, tmp_path / dtype)
        found[dtype] = _losses(tmp_path / dtype)
    for step in (0, -1):
        assert found["bfloat16"][step] == pytest.approx(found["float32"][step], rel=0.02)
    assert found["bfloat16"][0] != found["float32"][0]  # the control: it was bfloat16
    assert found["float32"][-1] < 0.7 * found["float32"][0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_passages": -1}, "n_passages must be a number of 0 or more"),
        ({"n_passages": [3, 2]}, "n_passages must be a number"),
        ({"n_passages": [3]}, "n_passages must be a number"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"label_smoothing": -0.1}, "label_smoothing must be"),
        ({"dev_questions": 0}, "dev_questions must be 1 or more"),
        ({"frozen_layers": -1}, "frozen_layers must be 0 or more"),
    ],
)
def test_options_out_of_range_are_named(changes: dict[str, object], said: str):
    with pytest.raises(ConfigError, match=said):
        GenerativeOptions(**changes)


def test_what_cannot_be_trained_is_said_before_anything_is_read(
    fid_dir: Path, model_dir: Path, examples: list[Example]
):
    with pytest.raises(ConfigError, match=r"data\.train=FILE"):
        GenerativeTask.from_files(_reader(fid_dir), data=DataFiles())
    extractive = ExtractiveReader.from_pretrained(str(model_dir), device="cpu")
    with pytest.raises(ConfigError, match=r"writes its answers, not ExtractiveReader; try reader=fid"):
        GenerativeTask.from_files(extractive, data=DataFiles(train="x"))
    reader = _reader(fid_dir)
    for parameter in reader.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing to train"):
        GenerativeTask(reader, train=examples)
    assert isinstance(reader, nn.Module)


@pytest.fixture
def question_file(examples: list[Example], tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    write_examples([replace(e, retrieved=()) for e in examples], path, format="dpr")
    return path


def _words(out: Path, fid_dir: Path, *more: str) -> list[str]:
    limits = ["reader.options.max_length=32", "reader.options.max_question=12", "policy.compute.dtype=float32"]
    limits += ["policy.save.log_every=1", "reader.generation.max_tokens=4"]
    return [f"reader.model={fid_dir}", f"out={out}", "policy.batch_size=4", "policy.steps=4", *limits, *more]


def _run(experiment: str, *words: str) -> None:
    build(compose("train", [f"experiment={experiment}", *words])).run()


def test_the_command_trains_a_reader_from_a_file_and_resumes(fid_dir: Path, question_file: Path, tmp_path: Path):
    words = [f"data.train={question_file}", f"data.dev={question_file}", "task.options.passages=gold"]
    _run("fid", *_words(tmp_path / "run", fid_dir, *words))
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["steps"] == 4
    assert {"config.json", "ragkit.json"} <= {path.name for path in (tmp_path / "run" / "reader").iterdir()}
    _run("fid", *_words(tmp_path / "run", fid_dir, *words))
    assert len(_losses(tmp_path / "run")) == 4


def test_fido_trains_and_answers_as_a_reader_of_its_own_kind(fid_dir: Path, question_file: Path, tmp_path: Path):
    """Guards against a converted decoder that trains but is saved, or opened again, as the model it came from."""
    words = [f"data.train={question_file}", f"data.dev={question_file}", "task.options.passages=gold"]
    _run("fido", *_words(tmp_path / "run", fid_dir, *words))
    folder = tmp_path / "run" / "reader"
    assert json.loads((folder / "ragkit.json").read_text())["kind"] == "fido"
    reader = open_reader(str(tmp_path / "run"), device="cpu", dtype="float32")
    assert reader.model.config.num_key_value_heads == 1
    passages = [[ScoredPassage(Passage("1", "the home of anna berg is rome"), 1.0)]]
    (found,) = reader.answer(["what is the home of anna berg"], passages)
    assert found.score > float("-inf")


def test_passages_are_those_that_an_index_finds(fid_dir: Path, world, question_file: Path, tmp_path: Path):
    corpus = tmp_path / "corpus.tsv"
    corpus.write_text("id\ttext\ttitle\n" + "".join(f"{p.id}\t{p.text}\t\n" for p in world.corpus()))
    index = tmp_path / "index"
    build(compose("index", [f"corpus={corpus}", "retriever=bm25", f"out={index}"])).run()
    words = [f"data.train={question_file}", f"data.dev={question_file}", f"index_dir={index}", "task.k=3"]
    _run("fid", *_words(tmp_path / "run", fid_dir, *words))
    assert [path.name for path in (index / "hits").iterdir()][0].endswith("-k3")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {line["passages"] for line in lines if "passages" in line} == {3.0}


DRAWS = {"passages": "gold", "n_passages": [1, 4], "order": "shuffled", "dropout": 0.1}


def test_a_resumed_run_has_the_losses_and_weights_of_one_never_stopped(
    fid_dir: Path, examples: list[Example], tmp_path: Path
):
    """Guards the draws and the dropout: both must depend on the step, not on what ran before. Every bit must agree."""
    optimizer = OptimizerPolicy(learning_rate=3e-3, schedule="constant", warmup=1)
    found = []
    for out, lengths in ((tmp_path / "whole", [5]), (tmp_path / "parts", [2, 5])):
        for steps in lengths:
            task = _task(fid_dir, examples, frozen_layers=1, **DRAWS)
            train(task, _policy(steps=steps, optimizer=optimizer), out)
        found.append((_losses(out), task.reader.state_dict()))
    assert found[0][0] == found[1][0]
    assert len(found[0][0]) == 5
    assert all(torch.equal(value, found[1][1][name]) for name, value in found[0][1].items())


def test_two_processes_have_the_losses_of_one(fid_dir: Path, question_file: Path, run_script, toy, tmp_path: Path):
    """torchrun on gloo, an uneven batch of 5, passages drawn and shuffled."""
    words = [f"data.train={question_file}", "policy.batch_size=5", "task.options.n_passages=[1,4]"]
    words += ["task.options.passages=gold", "task.options.order=shuffled"]
    _run("fid", *_words(tmp_path / "one", fid_dir, *words))
    two = ["train", "experiment=fid", *_words(tmp_path / "two", fid_dir, *words, "policy.compute.processes=2")]
    finished = run_script("command", *two, processes=2)
    assert finished.returncode == 0, finished.stderr
    assert "training in 2 processes" in finished.stderr
    assert toy.losses(tmp_path / "two") == pytest.approx(toy.losses(tmp_path / "one"), rel=1e-5)
    assert len(toy.losses(tmp_path / "two")) == 4


def test_a_causal_reader_trains_by_the_same_task(fid_dir: Path, question_file: Path, tmp_path: Path):
    """Guards the likeness of the readers: another class, another loss over other tokens, one experiment's keys."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(fid_dir)
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.random.set_rng_state(_generator().get_state())
        config = LlamaConfig(vocab_size=len(tokenizer), **shape, bos_token_id=None, eos_token_id=1, pad_token_id=0)
        LlamaForCausalLM(config).save_pretrained(tmp_path / "causal")
    tokenizer.save_pretrained(tmp_path / "causal")
    out = tmp_path / "run"
    words = [
        f"reader.model={tmp_path / 'causal'}",
        f"out={out}",
        "reader.options.max_prompt=200",
        f"data.train={question_file}",
        "reader.dtype=float32",
        "reader.lora=null",
    ]
    words += ["task.options.passages=gold", "policy.batch_size=6", "policy.steps=20", "policy.compute.dtype=float32"]
    _run(
        "causal", *words, f"data.dev={question_file}", "policy.save.log_every=1", "policy.optimizer.learning_rate=1e-2"
    )
    losses = _losses(out)
    assert losses[-1] < 0.7 * losses[0]
    assert open_reader(str(out), device="cpu", dtype="float32").answer([], []) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # matplotlib's
def test_fid_from_random_weights_learns_to_look_facts_up(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The short form of scripts/learn_lookup.py: unseen persons, three passages, chance 1/3.

    Guards against a reader that learns its training questions by heart, or to copy from whatever passage.
    """
    monkeypatch.syspath_prepend(str(root / "scripts"))
    import learn_lookup

    learn_lookup.main(["--quick", "--json", str(tmp_path / "found.json"), "--plot", str(tmp_path / "curve.svg")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["chance"] == pytest.approx(1 / 3, abs=0.01)
    assert found["exact_match"] > 2 * found["chance"]
    assert (tmp_path / "curve.svg").stat().st_size > 1000
