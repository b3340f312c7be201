"""``ragkit ask``: one question, its answer, and the passages it comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ragkit.errors import InputError
from ragkit.pipeline import load, read
from ragkit.reader.protocol import Explain, Reader
from ragkit.types import Evidence, Prediction, ScoredPassage

_SNIPPET = 240  # characters of a passage that are shown


@dataclass(frozen=True)
class AskJob:
    """Answer ``question`` from the ``k`` best passages of an index and print the answer with ``shown`` of them.

    Without a reader, print the passages found. Several index directories (of one corpus) are fused. ``explain`` asks a
    generative reader what each passage contributed: "leave_one_out" or "attention".
    """

    question: str
    index_dir: str | list[str]
    reader: Reader | None = None
    k: int = 20
    shown: int = 5
    explain: Explain | None = None
    device: str = "auto"

    def run(self) -> None:
        """Print to standard output; a question for which nothing is found says so."""
        if not self.question.strip():
            raise InputError('the question is empty; write it after the command: ragkit ask "who wrote hamlet" ...')
        if self.shown < 1:
            raise InputError(f"shown is {self.shown}; it must be 1 or more")
        folders: str | list[Path | str] = self.index_dir if isinstance(self.index_dir, str) else list(self.index_dir)
        rag = load(folders, self.reader, device=self.device)
        hits = rag.passages(rag.retrieve([self.question], k=self.k))
        console = Console(highlight=False)
        if not hits[0]:
            console.print("no passage of the index matches this question")
        elif rag.reader is None:
            console.print(passages_table(hits[0][: self.shown]))
        else:
            (prediction,) = read(rag.reader, [self.question], hits, explain=self.explain)
            console.print(answer_line(prediction))
            console.print(evidence_table(prediction, shown=self.shown))


def answer_line(prediction: Prediction) -> Text:
    """The answer with its score and how many passages were read; an empty prediction says that there is none."""
    n = len(prediction.evidence)
    read = f"{n} passage{'s' if n != 1 else ''} read"
    if not prediction.text:
        return Text(f"no answer found ({read})")
    line = Text(prediction.text, style="bold green")
    return line.append(f"   score {prediction.score:.2f}, {read}", style="not bold dim")


def evidence_table(prediction: Prediction, *, shown: int) -> Table:
    """The passages that contributed most: their share, the retriever's score, title, text with the answer."""
    table = _table("contribution", "retriever")
    for evidence in prediction.evidence[:shown]:
        numbers = f"{evidence.contribution:.3f}", f"{evidence.retriever_score:.3f}"
        table.add_row(*numbers, _shown_passage(evidence, prediction.text))
    return table


def passages_table(hits: Sequence[ScoredPassage]) -> Table:
    """The passages found, best first: the retriever's score, title, the text's beginning."""
    table = _table("retriever")
    for hit in hits:
        table.add_row(f"{hit.score:.3f}", _shown_passage(hit, ""))
    return table


def _table(*numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("passage", overflow="fold")
    return table


def _shown_passage(found: Evidence | ScoredPassage, answer: str) -> Text:
    """Title and snippet; plain text throughout, so that brackets in a passage are no markup."""
    passage = found.passage
    shown = Text(passage.title or passage.id, style="bold")
    text = snippet(passage.text, answer)
    body = Text(text, style="not bold")
    at = text.find(answer) if answer else -1
    if at >= 0:
        body.stylize("bold green", at, at + len(answer))
    return shown.append("\n").append_text(body)


def snippet(text: str, answer: str, *, length: int = _SNIPPET) -> str:
    """About ``length`` characters of the text, around the first place of the answer, else from its beginning.

    >>> snippet("one two three four five six", "four", length=10)
    '... three four ...'
    """
    text = " ".join(text.split()) if "\n" in text else text
    if len(text) <= length:
        return text
    at = max(text.find(answer), 0) if answer else 0
    begin = max(0, min(at + math.ceil(len(answer) / 2) - length // 2, len(text) - length))
    end = max(begin + length, at + len(answer))
    begin = text.rfind(" ", 0, begin) + 1 if begin else 0
    end = _next_space(text, end)
    return f"{'... ' if begin else ''}{text[begin:end]}{' ...' if end < len(text) else ''}"


def _next_space(text: str, at: int) -> int:
    found = text.find(" ", at)
    return found if found >= 0 else len(text)
