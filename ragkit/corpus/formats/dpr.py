"""DPR's question files: bi-encoder JSON or JSONL, question and answer lists (CSV), retriever results, gold passages.

Source: https://github.com/facebookresearch/DPR. Contriever's fine-tuning files are the bi-encoder format.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ragkit.corpus.formats.holding import holding, only_text
from ragkit.corpus.formats.lines import lines
from ragkit.corpus.formats.records import PASSAGE_IDS, Record, hits_of, passage_of, question_id
from ragkit.corpus.formats.table import Found
from ragkit.corpus.sources.fields import unquote
from ragkit.errors import FormatError
from ragkit.metrics import has_answer
from ragkit.types import Example, Passage


def parse_biencoder(record: Record) -> Example:
    """The example of ``{question, answers, positive_ctxs, negative_ctxs?, hard_negative_ctxs?}``.

    Raises:
        FormatError: a field is absent or of another kind.
    """
    question = record.nonblank("question")
    # as DPR: the simple negatives stand in only where there are no hard ones
    hard = record.parts("hard_negative_ctxs", default=True) or record.parts("negative_ctxs", default=True)
    return Example(
        id=record.identifier("id", "question_id", default=question_id(question)),
        question=question,
        answers=record.answers("answers"),
        positives=tuple(passage_of(ctx, *PASSAGE_IDS) for ctx in record.parts("positive_ctxs")),
        hard_negatives=tuple(passage_of(ctx, *PASSAGE_IDS) for ctx in hard),
    )


def biencoder_record(example: Example) -> dict[str, Any]:
    """The bi-encoder record of an example; ``id`` is ours, DPR ignores it."""
    return {
        "id": example.id,
        "question": example.question,
        "answers": list(example.answers),
        "positive_ctxs": [_ctx(passage) for passage in example.positives],
        "negative_ctxs": [],
        "hard_negative_ctxs": [_ctx(passage) for passage in example.hard_negatives],
    }


def _ctx(passage: Passage) -> dict[str, str]:
    return {"title": passage.title, "text": passage.text, "passage_id": passage.id}


hold_biencoder = holding("id", "answers", "positives", "hard_negatives")


def parse_results(record: Record) -> Example:
    """The example of ``{question, answers, ctxs: [{id, title, text, score, has_answer}]}``, hits as they stand.

    DPR writes ids as ``wiki:7`` for the passage ``7`` of its TSV: the prefix goes, so that they match the corpus.

    Raises:
        FormatError: a field is absent or of another kind.
    """
    question = record.nonblank("question")
    return Example(
        id=record.identifier("id", default=question_id(question)),
        question=question,
        answers=record.answers("answers"),
        retrieved=hits_of(record, "ctxs", needs_score=True),
    )


def results_record(example: Example) -> dict[str, Any]:
    """The record of DPR's dense retriever: scores as text, ``has_answer`` by DPR's token match."""
    hits = [
        {
            "id": hit.passage.id,
            "title": hit.passage.title,
            "text": hit.passage.text,
            "score": str(hit.score),
            "has_answer": has_answer(hit.passage.text, example.answers),
        }
        for hit in example.retrieved
    ]
    return {"id": example.id, "question": example.question, "answers": list(example.answers), "ctxs": hits}


hold_results = holding("id", "answers", "retrieved")


def parse_gold(record: Record) -> Example:
    """The example of a record of DPR's gold passage files: one positive, its id derived; answers where there are any.

    Raises:
        FormatError: a field is absent or of another kind.
    """
    question = record.nonblank("question")
    context = record.inner({"title": record.value.get("title"), "text": record.value.get("context")}, "context")
    return Example(
        id=record.identifier("example_id", default=question_id(question)),
        question=question,
        answers=record.answers("short_answers", default=()),
        positives=(passage_of(context),),
    )


def gold_record(example: Example) -> dict[str, Any]:
    """The gold passage record of an example with a positive; the tokens are the question's words."""
    return {
        "example_id": example.id,
        "question": example.question,
        "question_tokens": " ".join(example.question.split()),
        "short_answers": list(example.answers),
        "title": example.positives[0].title,
        "context": example.positives[0].text,
    }


def hold_gold(example: Example) -> Example | None:
    """Id, answers and the first positive, by text."""
    kept = holding("id", "answers", "positives", passage=only_text)(example)
    return replace(kept, positives=kept.positives[:1]) if kept and kept.positives else None


def read_qas(path: Path) -> Iterator[Found]:
    """The examples of a file of questions and Python lists of answers, with a TAB between them (``.qa.csv``).

    The list is parsed as a literal, never run. One line is one question: a quote that nothing closes is text.
    """
    for number, line in lines(path):
        if isinstance(line, FormatError):
            yield line
            continue
        question, tab, answers = line.rpartition("\t")
        if not tab:
            yield FormatError(path, number, "wanted a question, a TAB and a list of answers; there is no TAB")
            continue
        record = Record(path, number, {"question": unquote(question), "answers": _literal(unquote(answers))})
        try:
            text = record.nonblank("question")
            yield number, Example(id=question_id(text), question=text, answers=record.answers("answers"))
        except FormatError as error:
            yield error


def qas_line(example: Example) -> str:
    """The line of an example, each field quoted as in csv where it must be."""
    return f"{_cell(_in_one_line(example.question))}\t{_cell(repr(list(example.answers)))}\n"


def _cell(text: str) -> str:
    # a question may begin with U+FEFF: at the start of a file it would be taken for the byte-order mark
    needs_quotes = '"' in text or "\t" in text or text.startswith("\ufeff")
    return '"' + text.replace('"', '""') + '"' if needs_quotes else text


def hold_qas(example: Example) -> Example:
    """Answers and the question in one line."""
    question = _in_one_line(example.question)
    return Example(id=question_id(question), question=question, answers=example.answers)


def _in_one_line(text: str) -> str:
    return text.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")


def _literal(text: str) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # answers with a backslash: "\\d" is no escape
            warnings.simplefilter("ignore", DeprecationWarning)
            found: object = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return list(found) if isinstance(found, tuple) else found
