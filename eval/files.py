"""What an evaluation leaves on disk, and its reader for comparisons."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from ragkit.corpus.formats.trec import write_qrels, write_run
from ragkit.corpus.formats.writing import atomically, text_file
from ragkit.errors import FormatError, InputError
from ragkit.metrics import Interval
from ragkit.types import Example, Prediction, SearchResult

from .scores import Scores

METRICS, QUESTIONS, PREDICTIONS, RUN, QRELS = (
    "metrics.json",
    "questions.jsonl",
    "predictions.jsonl",
    "run.trec",
    "qrels.trec",
)
_DESCRIPTION = ("id", "question", "answers")


def check_out(out: Path, *, overwrite: bool) -> None:
    """InputError where the folder holds an evaluation already and ``overwrite`` is not set."""
    if (out / METRICS).exists() and not overwrite:
        raise InputError(f"{out} holds an evaluation already; choose another out=, or add overwrite=true")


def prepare_out(out: Path, *, overwrite: bool) -> None:
    """Make the folder, without an earlier evaluation's files; InputError as :func:`check_out`.

    ``metrics.json`` goes first, so that what is left of a removal cut short is no evaluation. A run without a reader
    would otherwise leave the predictions of one with a reader beside its figures.
    """
    check_out(out, overwrite=overwrite)
    out.mkdir(parents=True, exist_ok=True)
    for name in (METRICS, QUESTIONS, PREDICTIONS, RUN, QRELS):
        (out / name).unlink(missing_ok=True)


def write_metrics(out: Path, found: Mapping[str, Interval], *, about: Mapping[str, Any]) -> None:
    """``metrics.json``: what the run was, and ``{"hit@20": {"value", "low", "high", "n"}, ...}``."""
    metrics = {
        name: {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n}
        for name, interval in found.items()
    }
    write_json(out / METRICS, {**about, **metrics})


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """One JSON object, atomically, over what was there."""
    with atomically(path, overwrite=True) as aside, text_file(aside) as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def write_questions(out: Path, examples: Sequence[Example], scores: Scores) -> None:
    """``questions.jsonl``: a question a line with its value of every metric (null where one does not apply)."""
    _write_lines(
        out / QUESTIONS,
        (
            {"id": example.id, "question": example.question, "answers": list(example.answers)}
            | {name: None if math.isnan(values[row]) else float(values[row]) for name, values in scores.items()}
            for row, example in enumerate(examples)
        ),
    )


def write_predictions(out: Path, examples: Sequence[Example], predictions: Sequence[Prediction]) -> None:
    """``predictions.jsonl``: a question a line with the reader's answer, its score and its evidence."""
    _write_lines(
        out / PREDICTIONS,
        (
            {
                "id": example.id,
                "question": example.question,
                "answers": list(example.answers),
                "prediction": prediction.text,
                "score": prediction.score if math.isfinite(prediction.score) else None,
                "evidence": [
                    {
                        "passage_id": evidence.passage.id,
                        "title": evidence.passage.title,
                        "retriever_score": evidence.retriever_score,
                        "contribution": evidence.contribution,
                    }
                    for evidence in prediction.evidence
                ],
            }
            for example, prediction in zip(examples, predictions, strict=True)
        ),
    )


def write_trec(
    out: Path,
    examples: Sequence[Example],
    *,
    hits: tuple[SearchResult, list[list[str]]],
    gold: Sequence[Sequence[str]] | None,
) -> None:
    """``run.trec`` and, where there are gold passages, ``qrels.trec``; ``hits`` come with the ids of their passages.

    Scorers order a run by score and break ties their own way, so equal scores are set apart by the smallest step.
    InputError where an id has white space.
    """
    found, ids = hits
    run = {
        example.id: list(zip(line, falling(scores[: len(line)]), strict=True))
        for example, line, scores in zip(examples, ids, found.scores, strict=True)
    }
    write_run(run, out / RUN, overwrite=True)
    if gold is not None:
        qrels = {example.id: dict.fromkeys(line, 1) for example, line in zip(examples, gold, strict=True) if line}
        write_qrels(qrels, out / QRELS, overwrite=True)


def falling(scores: Float32[np.ndarray, " hit"]) -> list[float]:
    """The scores, each at least one float32 step below the one before it."""
    steps: list[float] = []
    for score in scores:
        highest = np.nextafter(np.float32(steps[-1]), np.float32(-np.inf)) if steps else score
        steps.append(float(min(score, highest)))
    return steps


def read_scores(out: Path) -> tuple[list[str], dict[str, list[float]]]:
    """The question ids and the values of every metric (NaN for null) that :func:`write_questions` wrote.

    InputError where there is no such file or it is empty, FormatError where a line is not of its kind.
    """
    path = out / QUESTIONS
    if not path.is_file():
        raise InputError(f"{out} is no evaluation: it has no {QUESTIONS}; make it with: ragkit eval ... out={out}")
    lines = [_parsed(line, path, number) for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)]
    if not lines:
        raise InputError(f"{path} has no questions")
    names = [name for name in lines[0] if name not in _DESCRIPTION]
    for number, line in enumerate(lines, start=1):
        wrong = [name for name in names if not isinstance(line.get(name), float | int | None)]
        if wrong or set(line) != set(lines[0]):
            raise FormatError(path, number, f"expected the numbers {names}, found the keys {sorted(line)}")
    values = {name: [math.nan if line[name] is None else float(line[name]) for line in lines] for name in names}
    return [str(line["id"]) for line in lines], values


def _parsed(text: str, path: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise FormatError(path, number, f"not JSON: {error}") from error
    if not isinstance(value, dict) or "id" not in value:
        raise FormatError(path, number, 'expected an object with "id"')
    return value


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with atomically(path, overwrite=True) as aside, text_file(aside) as file:
        file.writelines(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
