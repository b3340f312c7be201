"""``ragkit convert IN OUT --to FORMAT``: questions, passages, runs and judgements from one format to another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ragkit.corpus.formats import trec
from ragkit.corpus.formats.beir import judgements
from ragkit.corpus.formats.catalogue import FORMATS, of_corpus, source_of
from ragkit.corpus.formats.examples import read_examples, write_examples
from ragkit.corpus.formats.losses import Tally
from ragkit.corpus.formats.passages import PASSAGE_WRITERS, hold_passage
from ragkit.corpus.formats.sniffing import sniff
from ragkit.corpus.formats.table import Format
from ragkit.corpus.formats.writing import atomically
from ragkit.corpus.read import ReadOptions, read_corpus
from ragkit.corpus.report import ReadReport
from ragkit.corpus.sniff import sniff_corpus
from ragkit.corpus.write import write_store
from ragkit.errors import InputError
from ragkit.progress import progress
from ragkit.types import Example, Passage


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """How to read the source (``format`` None: by its content) and whether a file at the target may be replaced."""

    format: str | None = None
    on_error: Literal["raise", "skip"] = "raise"
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What a conversion read, kept and dropped."""

    source_format: str
    to: str
    read: ReadReport = field(default_factory=ReadReport)
    tally: Tally = field(default_factory=Tally)

    def summary(self) -> str:
        """One line for the user."""
        skipped = f" ({self.read.summary(noun='records')})" if self.read.skipped or self.read.empty else ""
        return f"{self.source_format} -> {self.to}: {self.tally.summary(self.to) or 'nothing to write'}{skipped}"


def convert(source: Path | str, target: Path | str, *, to: str, options: ConvertOptions | None = None) -> ConvertReport:
    """Write ``source`` at ``target`` in the format ``to``; nothing is at ``target`` until all of it is there.

    Questions become questions of another format, or the run or the judgements in them; passages, runs and judgements
    become others of their kind. What ``to`` cannot hold is left out and counted.

    Raises:
        InputError: a format is unknown, the two do not fit, ``target`` is there already, or nothing would be written.
        FormatError: a record of the source breaks its format.
    """
    source, target, options = Path(source), Path(target), options or ConvertOptions()
    wanted = _writable(to)
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{target} is the source itself; write to another file")
    if wanted.kind == "passages":
        return _convert_passages(source, target, wanted, options)
    name = options.format or sniff(source)
    kind = FORMATS[name].kind if name in FORMATS else "examples"  # read_examples names the known formats
    if kind == "examples":
        return _convert_examples(source, target, wanted, options)
    if kind != wanted.kind:
        raise InputError(f"{source} is {name}, which holds {kind}; {to} holds {wanted.kind}, and needs more than that")
    return (_convert_run if kind == "run" else _convert_qrels)(source, target, wanted, options)


def _writable(to: str) -> Format:
    wanted = FORMATS.get(to)
    if wanted is None or not wanted.writes:
        choices = sorted(name for name, known in FORMATS.items() if known.writes)
        raise InputError(f"cannot write the format {to!r}; choose from {choices}")
    return wanted


def _convert_examples(source: Path, target: Path, wanted: Format, options: ConvertOptions) -> ConvertReport:
    report = ConvertReport(options.format or sniff(source), wanted.name)
    found = progress(
        read_examples(source, format=report.source_format, on_error=options.on_error, report=report.read),
        description="questions",
    )
    if wanted.kind == "run":
        _WRITE_RUN[wanted.name](_run_of(found, report), target, overwrite=options.overwrite)
    elif wanted.kind == "qrels":
        _WRITE_QRELS[wanted.name](_qrels_of(found, report), target, overwrite=options.overwrite)
    else:
        write_examples(_held(found, wanted, report), target, format=wanted.name, overwrite=options.overwrite)
    return report


def _held(examples: Iterable[Example], wanted: Format, report: ConvertReport) -> Iterator[Example]:
    for example in examples:
        held = wanted.hold(example) if wanted.hold is not None else None
        report.tally.add(example, held)
        if held is not None:
            yield example
    if not report.tally.kept["questions"]:
        raise InputError(f"nothing to write: {wanted.name} can hold none of the {report.read.read:,} questions")


def _run_of(examples: Iterable[Example], report: ConvertReport) -> trec.Run:
    run = {example.id: {hit.passage.id: hit.score for hit in example.retrieved} for example in examples}
    _count_lists(run, report, what="retrieved passages")
    return {query: sorted(hits.items(), key=lambda hit: -hit[1]) for query, hits in run.items()}


def _qrels_of(examples: Iterable[Example], report: ConvertReport) -> trec.Qrels:
    qrels = {example.id: judgements(example) for example in examples}
    _count_lists(qrels, report, what="positives")
    return qrels


def _count_lists(lists: Mapping[str, Sized], report: ConvertReport, *, what: str) -> None:
    report.tally.kept["questions"] = sum(len(found) > 0 for found in lists.values())
    report.tally.dropped["questions"] = len(lists) - report.tally.kept["questions"]
    report.tally.kept[what] = sum(map(len, lists.values()))
    if not report.tally.kept[what]:
        raise InputError(f"nothing to write: {report.source_format} gives {report.read.read:,} questions but no {what}")


def _convert_run(source: Path, target: Path, wanted: Format, options: ConvertOptions) -> ConvertReport:
    report = ConvertReport(options.format or sniff(source), wanted.name)
    run = trec.read_run(source)
    _count_lists(run, report, what="retrieved passages")
    _WRITE_RUN[wanted.name](run, target, overwrite=options.overwrite)
    return report


def _convert_qrels(source: Path, target: Path, wanted: Format, options: ConvertOptions) -> ConvertReport:
    report = ConvertReport(options.format or sniff(source), wanted.name)
    qrels = trec.read_qrels(source)
    _count_lists(qrels, report, what="judgements")
    _WRITE_QRELS[wanted.name](qrels, target, overwrite=options.overwrite)
    return report


def _convert_passages(source: Path, target: Path, wanted: Format, options: ConvertOptions) -> ConvertReport:
    name = source_of(options.format) if options.format else sniff_corpus(source)
    if name == "beir" and source.is_file():
        name = "jsonl"  # the corpus.jsonl itself
    report = ConvertReport(options.format or of_corpus(name), wanted.name)
    reading = ReadOptions(format=name, on_error=options.on_error)
    passages = _counted(read_corpus(source, options=reading, report=report.read), wanted, report)
    if wanted.name == "store":
        write_store(passages, target, overwrite=options.overwrite)
        return report
    with atomically(target, overwrite=options.overwrite) as aside:
        PASSAGE_WRITERS[wanted.name][1](progress(passages, description="passages"), aside)
    return report


def _counted(passages: Iterable[Passage], wanted: Format, report: ConvertReport) -> Iterator[Passage]:
    for passage in passages:
        report.tally.kept["passages"] += 1
        report.tally.dropped["line ends or tabs of passages"] += hold_passage(wanted.name, passage) != passage
        yield passage
    if not report.tally.kept["passages"]:
        raise InputError("nothing to write: the source has no passages")


_WRITE_RUN = {"trec-run": trec.write_run, "tevatron-run": trec.write_tevatron_run}
_WRITE_QRELS = {"trec-qrels": trec.write_qrels, "beir-qrels": trec.write_beir_qrels}


@dataclass(frozen=True, slots=True)
class ConvertJob:
    """``ragkit convert SOURCE TARGET --to FORMAT``; the keys of ``conf/convert.yaml``."""

    source: Path
    target: Path
    to: str
    format: str | None = None
    on_error: Literal["raise", "skip"] = "raise"
    overwrite: bool = False

    def run(self) -> None:
        """Convert, and print what was kept and dropped in one line."""
        options = ConvertOptions(format=self.format, on_error=self.on_error, overwrite=self.overwrite)
        report = convert(self.source, self.target, to=self.to, options=options)
        print(f"{self.target}: {report.summary()}")  # noqa: T201  the result of the command
