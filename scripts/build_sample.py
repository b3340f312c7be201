"""Write the built-in sample from its source texts: passages.tsv, train.jsonl, dev.jsonl, test.jsonl.

A source file holds blocks: `# Title`, one line of text, then questions, `Q: question | answer ; another answer`.
A question that its author meant to be answerable only by meaning begins with `S:`; whether it is, and so the record's
`semantic`, is for `is_semantic` to say.

    python scripts/build_sample.py            # writes ragkit/sample/
    python scripts/build_sample.py --check    # writes nothing; fails if the files differ from what the sources give
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import bm25s
import Stemmer
from bm25s.stopwords import STOPWORDS_EN_PLUS

from ragkit.metrics import has_answer

SAMPLE = Path(__file__).parents[1] / "ragkit" / "sample"
TOPICS = ("science", "geography", "history", "arts", "sport", "technology")
WORDS = range(80, 121)
NEGATIVES = 3
PERIOD, DEV, TEST = 18, (3, 10), (1, 5, 8, 12, 15)  # neighbours, which are alike, fall into different splits
STOP_WORDS = frozenset(STOPWORDS_EN_PLUS)
STEMMER = Stemmer.Stemmer("english")


@dataclass(slots=True)
class Question:
    """A question of a source file; its first answer stands in the passage word for word."""

    text: str
    answers: list[str]
    meant_semantic: bool


@dataclass(slots=True)
class Entry:
    """A passage of a source file with its questions."""

    id: str
    title: str
    text: str
    questions: list[Question] = field(default_factory=list)

    def context(self) -> dict[str, str]:
        """The passage as DPR's files write one."""
        return {"id": self.id, "title": self.title, "text": self.text}


def read_sources(folder: Path) -> list[Entry]:
    entries: list[Entry] = []
    for topic in TOPICS:
        for line in (folder / f"{topic}.txt").read_text(encoding="ascii").splitlines():
            if line.startswith("# "):
                entries.append(Entry(str(len(entries) + 1), line[2:], ""))
            elif match := re.fullmatch(r"([QS]): (.+\?) \| (.+)", line):
                kind, text, answers = match.groups()
                entries[-1].questions.append(Question(text, answers.split(" ; "), kind == "S"))
            elif line and not entries[-1].text:
                entries[-1].text = line
            elif line:
                raise SystemExit(f"{topic}.txt: neither a title, a text nor a question: {line[:60]!r}")
    return entries


def faults(entries: Sequence[Entry]) -> list[str]:
    """What keeps the sources from being the sample that README.md describes; empty if nothing does."""
    found = [f"title {title!r} stands {n} times" for title, n in Counter(e.title for e in entries).items() if n > 1]
    questions = Counter(q.text.lower() for e in entries for q in e.questions)
    found += [f"question {text!r} stands {n} times" for text, n in questions.items() if n > 1]
    for entry in entries:
        n_words = len(entry.text.split())
        if n_words not in WORDS:
            found.append(f"{entry.title}: {n_words} words")
        if len(entry.questions) < 2:
            found.append(f"{entry.title}: {len(entry.questions)} questions")
        for question in entry.questions:
            if question.answers[0] not in entry.text:
                found.append(f"{entry.title}: the answer {question.answers[0]!r} is not in the text")
            if has_answer(question.text, question.answers):
                found.append(f"{entry.title}: the question gives its answer away: {question.text}")
    return found


def content_words(text: str) -> set[str]:
    """The distinct stems of a text's words that are not stop words."""
    return {STEMMER.stemWord(word) for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in STOP_WORDS}


def is_semantic(question: str, passage: str) -> bool:
    """Whether at most one content word of the question, and at most a quarter of them, occurs in the passage."""
    words = content_words(question)
    shared = len(words & content_words(passage))
    return shared <= 1 and 4 * shared <= len(words)


def tokenize(texts: Sequence[str]) -> bm25s.tokenization.Tokenized:
    return bm25s.tokenize(list(texts), stopwords="en", stemmer=STEMMER, show_progress=False)


def hard_negatives(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """For each question the best BM25 passages that hold none of its answers and are not its own."""
    index = bm25s.BM25()
    index.index(tokenize([f"{e.title} {e.text}" for e in entries]), show_progress=False)
    chosen = {}
    for entry in entries:
        for question in entry.questions:
            rows, _ = index.retrieve(tokenize([question.text]), k=40, show_progress=False)
            others = (entries[row] for row in rows[0] if entries[row] is not entry)
            answerless = [o for o in others if not has_answer(f"{o.title} {o.text}", question.answers)]
            chosen[question.text] = answerless[:NEGATIVES]
    return chosen


def split_of(row: int) -> str:
    return "dev" if row % PERIOD in DEV else "test" if row % PERIOD in TEST else "train"


def build(entries: Sequence[Entry]) -> dict[str, str]:
    """The sample's files: name -> content."""
    negatives = hard_negatives(entries)
    rows = [f'{e.id}\t"{e.text}"\t{e.title}' for e in entries]
    lines: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for row, entry in enumerate(entries):
        for n, question in enumerate(entry.questions, start=1):
            record = {
                "id": f"{entry.id}-{n}",
                "question": question.text,
                "answers": question.answers,
                "positive_ctxs": [entry.context()],
                "hard_negative_ctxs": [e.context() for e in negatives[question.text]],
                "semantic": is_semantic(question.text, f"{entry.title} {entry.text}"),
            }
            lines[split_of(row)].append(json.dumps(record))
    files = {f"{split}.jsonl": "\n".join(records) + "\n" for split, records in lines.items()}
    return {"passages.tsv": "\n".join(["id\ttext\ttitle", *rows]) + "\n", **files}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the built-in sample from its source texts.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs from its sources")
    parser.add_argument("--words", action="store_true", help="list the questions meant as semantic that share words")
    options = parser.parse_args()
    entries = read_sources(SAMPLE / "source")
    if found := faults(entries):
        sys.exit("\n".join(found))
    if options.words:
        for entry in entries:
            passage = f"{entry.title} {entry.text}"
            for question in entry.questions:
                if question.meant_semantic and not is_semantic(question.text, passage):
                    print(entry.title, "|", question.text, "|", content_words(question.text) & content_words(passage))
        return
    files = build(entries)
    stale = [n for n, text in files.items() if not (SAMPLE / n).exists() or (SAMPLE / n).read_text("utf-8") != text]
    if options.check:
        sys.exit(f"{', '.join(stale)} differ; run: python scripts/build_sample.py" if stale else 0)
    for name in stale:
        (SAMPLE / name).write_text(files[name], encoding="utf-8")
    for name, text in files.items():
        semantic = text.count('"semantic": true')
        print(f"{name}: {len(text.splitlines())} lines, {len(text) / 1000:.0f} kB, {semantic} semantic")


if __name__ == "__main__":
    main()
