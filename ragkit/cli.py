"""``ragkit COMMAND [KEY=VALUE ...]``: the one console script.

Exit codes: 0 done; 2 the user's input or configuration is wrong (one message, no traceback); 130 and 143 a run that
was interrupted or terminated and saved itself; 1 anything else.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ragkit import config as configuration
from ragkit.binding import build
from ragkit.errors import ConfigError, RagkitError


@dataclass(frozen=True, slots=True)
class Command:
    """One word after ``ragkit``: its help, and the words that may stand in place of KEY=VALUE."""

    name: str
    summary: str
    examples: tuple[str, ...]
    positional: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    keeps_config: bool = False  # whether OUT/config.yaml records the configuration


COMMANDS = {
    command.name: command
    for command in (
        Command("demo", "the whole story on the built-in sample, offline, on a CPU", ("ragkit demo",)),
        Command(
            "index",
            "read a corpus, encode it, and write an index directory",
            (
                "ragkit index corpus=psgs.tsv retriever=minilm index=flat out=runs/wiki",
                "ragkit index corpus=psgs.tsv retriever=bm25 out=runs/wiki-bm25",
            ),
        ),
        Command(
            "mine",
            "find hard negatives for questions",
            ("ragkit mine data=nq.train.jsonl index_dir=runs/wiki-bm25 out=nq.mined.jsonl",),
        ),
        Command(
            "train",
            "train a retriever or a reader; the same command again resumes a run that was cut off",
            (
                "ragkit train experiment=dpr data.train=nq.train.jsonl data.dev=nq.dev.jsonl out=runs/dpr",
                "ragkit train experiment=extractive data.train=nq.train.jsonl data.dev=nq.dev.jsonl out=runs/reader",
            ),
            keeps_config=True,
        ),
        Command(
            "eval",
            "score retrieval and, with a reader, answers; compare two runs",
            (
                "ragkit eval data=nq.test.jsonl index_dir=runs/wiki out=runs/eval",
                "ragkit eval data=nq.test.jsonl index_dir=runs/wiki reader=runs/reader out=runs/eval-reader",
                "ragkit eval compare=[runs/eval-a,runs/eval-b]",
            ),
            keeps_config=True,
        ),
        Command(
            "ask",
            "answer one question, with the evidence",
            ('ragkit ask "who wrote hamlet" index_dir=runs/wiki reader=runs/reader',),
            positional=("question",),
        ),
        Command(
            "convert",
            "convert questions, passages or runs from one format to another",
            (
                "ragkit convert biencoder-nq-dev.json nq.dev.jsonl --to fid",
                "ragkit convert nq.dev.jsonl qrels.trec --to trec-qrels",
                "ragkit convert psgs.tsv psgs.parquet --to parquet",
            ),
            positional=("source", "target"),
            flags=("to",),
        ),
    )
}
_OPTIONS = """\
options after the command:
  -h, --help              what the command does, its keys and the choices of its groups
  -m, --multirun          run every combination of values given as KEY=A,B; each writes to OUT/NUMBER
  --cfg job               print the composed configuration and stop
completion in the shell:  eval "$(ragkit completion bash)"   (zsh: after `autoload bashcompinit; bashcompinit`)"""
_COMPLETION = """\
_ragkit() { mapfile -t COMPREPLY < <(ragkit --complete "${COMP_LINE:0:$COMP_POINT}" 2>/dev/null); }
complete -o default -o nospace -F _ragkit ragkit"""


# how many compiled kernels torch's oneDNN keeps, one for every shape of a batch; its own 1,024 take 0.7 GB for texts of
# all lengths, and save no time
_KERNEL_CACHE = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")


def main(words: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code."""
    words = list(sys.argv[1:] if words is None else words)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("ragkit").setLevel(logging.INFO)
    try:
        return _dispatch(words)
    except RagkitError as error:
        _say(f"ragkit: error: {error}", to_errors=True)
        return 2
    except BrokenPipeError:  # `ragkit ... | head` closed the pipe
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        _say(f"ragkit: error: {error}", to_errors=True)
        return 2
    except KeyboardInterrupt:
        return 130


def _dispatch(words: Sequence[str]) -> int:
    first = words[0] if words else "--help"
    if first in {"-h", "--help", "help"}:
        _say(_overview())
    elif first == "--version":
        _say(f"ragkit {importlib.metadata.version('ragkit')}")
    elif first == "completion":
        _say(_COMPLETION)
    elif first == "--complete":
        _say("\n".join(_completions(words[1] if len(words) > 1 else "")))
    elif first in COMMANDS:
        return _run(COMMANDS[first], words[1:])
    else:
        raise ConfigError(f"unknown command {first!r}; choose from {', '.join(COMMANDS)} (ragkit --help)")
    return 0


def _run(command: Command, words: Sequence[str]) -> int:
    if {"-h", "--help"} & set(words):
        _say(_help(command))
        return 0
    line = _parse(command, words)
    combinations = configuration.sweep(line.overrides) if line.sweeps else [line.overrides]
    for number, overrides in enumerate(combinations):
        job = {**configuration.compose(command.name, overrides), **line.values}
        if line.sweeps and isinstance(job.get("out"), str):
            job["out"] = f"{job['out']}/{number}"
            _say(f"[{number + 1} of {len(combinations)}] {' '.join(overrides)} -> {job['out']}", to_errors=True)
        if line.shows_config:
            _say(configuration.to_yaml(job).rstrip())
        else:
            _work(command, job)
    return 0


def _work(command: Command, job: dict[str, Any]) -> None:
    os.environ.setdefault(*_KERNEL_CACHE)
    task = build(job)
    is_kept = command.keeps_config and job.get("out") is not None and os.environ.get("RANK", "0") == "0"
    if is_kept:  # at once, for a run that is cut off; an earlier run's stays until this one has succeeded
        configuration.keep(job, task.out, replace=False)
    task.run()
    if is_kept:
        configuration.keep(job, task.out, replace=True)


@dataclass(slots=True)
class _Line:
    """What a command line says: options, overrides, and the values that take no override syntax."""

    shows_config: bool = False
    sweeps: bool = False
    overrides: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)


def _parse(command: Command, words: Sequence[str]) -> _Line:
    line, remaining, positional = _Line(), list(words), list(command.positional)
    while remaining:
        word = remaining.pop(0)
        option, has_value, value = word.partition("=")
        if option in {"-m", "--multirun"} and not has_value:
            line.sweeps = True
        elif option in {"--cfg", "-c", *(f"--{flag}" for flag in command.flags)}:
            if not has_value:
                if not remaining:
                    raise ConfigError(f"{word} wants a value after it (ragkit {command.name} --help)")
                value = remaining.pop(0)
            if option in {"--cfg", "-c"} and value != "job":
                raise ConfigError(f"--cfg shows `job` only, not {value!r}")
            line.shows_config |= option in {"--cfg", "-c"}
            if option not in {"--cfg", "-c"}:
                line.values[option.removeprefix("--")] = value
        elif word.startswith("-") and " " not in word:
            raise ConfigError(f"unknown option {option!r} (ragkit {command.name} --help)")
        elif positional and not _is_override(word):
            line.values[positional.pop(0)] = word
        else:
            line.overrides.append(word)
    return line


def _is_override(word: str) -> bool:
    key, has_value, _ = word.partition("=")
    return bool(has_value) and key.lstrip("+~").replace("_", "").replace(".", "").replace("@", "").isalnum()


def _overview() -> str:
    width = max(len(name) for name in COMMANDS)
    rows = [f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS.values()]
    examples = [f"  {command.examples[0]}" for command in COMMANDS.values()]
    return "\n".join(
        [
            "usage: ragkit COMMAND [KEY=VALUE ...]",
            "",
            *rows,
            "",
            "every word after the command sets a key of its configuration; `ragkit COMMAND --help` lists them",
            "",
            "examples:",
            *examples,
            "",
            _OPTIONS,
        ]
    )


def _help(command: Command) -> str:
    positional = "".join(f" {name.upper()}" for name in command.positional)
    flags = "".join(f" [--{flag} {flag.upper()}]" for flag in command.flags)
    try:
        defaults = configuration.to_yaml(configuration.compose(command.name, [])).rstrip()
    except ConfigError:  # a group must be chosen first
        defaults = configuration.raw(command.name).rstrip()
    groups = [
        f"  {group}: {', '.join(configuration.group_choices(group))}"
        + (", or a path" if group in configuration.PATH_FIELDS else "")
        for group in configuration.groups(command.name)
    ]
    return "\n".join(
        [
            f"usage: ragkit {command.name}{positional}{flags} [KEY=VALUE ...]",
            "",
            command.summary,
            "",
            "examples:",
            *(f"  {example}" for example in command.examples),
            *(["", "groups (GROUP=NAME):", *groups] if groups else []),
            "",
            "keys and defaults (??? must be given):",
            *(f"  {line}" for line in defaults.splitlines()),
            "",
            _OPTIONS,
        ]
    )


def _completions(line: str) -> list[str]:
    words = line.split(" ")[1:]
    if len(words) <= 1:
        return [name for name in COMMANDS if name.startswith(words[0] if words else "")]
    return configuration.complete(words[0], " ".join(words[1:])) if words[0] in COMMANDS else []


def _say(text: str, *, to_errors: bool = False) -> None:
    print(text, file=sys.stderr if to_errors else sys.stdout, flush=True)  # noqa: T201  this is the command line
