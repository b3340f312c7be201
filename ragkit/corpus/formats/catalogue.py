"""The one table of formats: everything that lists, sniffs, reads, writes or documents formats takes it from here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ragkit.corpus.formats import atlas, beir, dpr, fid, kilt, plain, pyserini, squad, tevatron
from ragkit.corpus.formats.json_stream import records
from ragkit.corpus.formats.passages import PASSAGE_WRITERS
from ragkit.corpus.formats.table import Format, Found, of_examples, parse_each, reading, writing
from ragkit.corpus.formats.writing import text_file, write_list, write_members
from ragkit.corpus.sniff import SOURCES
from ragkit.types import Example


def _read_triviaqa(path: Path) -> Iterator[Found]:
    return parse_each(records(path, under=("Data",)), plain.parse_triviaqa)


def _write_triviaqa(examples: Iterable[Example], path: Path) -> None:
    write_list(map(plain.triviaqa_record, examples), path, under="Data")


def _read_gold(path: Path) -> Iterator[Found]:
    return parse_each(records(path, under=("data",)), dpr.parse_gold)


def _write_gold(examples: Iterable[Example], path: Path) -> None:
    write_list(map(dpr.gold_record, examples), path, under="data")


def _write_qas(examples: Iterable[Example], path: Path) -> None:
    with text_file(path) as file:
        file.writelines(map(dpr.qas_line, examples))


def _write_squad(examples: Iterable[Example], path: Path) -> None:
    write_list(squad.articles(examples), path, under="data")


def _write_pyserini(examples: Iterable[Example], path: Path) -> None:
    write_members(pyserini.run_members(examples), path)


_EXAMPLES = (
    of_examples(
        "dpr",
        "DPR and Contriever training data: positive_ctxs, hard_negative_ctxs; JSON list or JSONL",
        reading(dpr.parse_biencoder),
        write=writing(dpr.biencoder_record, is_list=True),
        hold=dpr.hold_biencoder,
    ),
    of_examples(
        "dpr-qas",
        "DPR's .qa.csv: question, TAB, Python list of answers",
        dpr.read_qas,
        write=_write_qas,
        hold=dpr.hold_qas,
    ),
    of_examples(
        "dpr-results",
        "DPR's retriever results: ctxs with score and has_answer; JSON list or JSONL",
        reading(dpr.parse_results),
        write=writing(dpr.results_record, is_list=True),
        hold=dpr.hold_results,
    ),
    of_examples("dpr-gold", "DPR's gold passages: {data: [...]}", _read_gold, write=_write_gold, hold=dpr.hold_gold),
    of_examples(
        "fid",
        "FiD's reader data: ctxs, target; JSON list or JSONL",
        reading(fid.parse),
        write=writing(fid.to_record, is_list=True),
        hold=fid.hold,
    ),
    of_examples(
        "atlas-qa",
        "Atlas' qa task, and plain {question, answers} lines; JSONL",
        reading(atlas.parse_qa),
        write=writing(atlas.qa_record),
        hold=atlas.hold_qa,
    ),
    of_examples(
        "atlas-base",
        "Atlas' base task: {query, target}; JSONL",
        reading(atlas.parse_base),
        write=writing(atlas.base_record),
        hold=atlas.hold_base,
    ),
    of_examples(
        "atlas-fever",
        "Atlas' fever task: {claim, label}; JSONL",
        reading(atlas.parse_fever),
        write=writing(atlas.fever_record),
        hold=atlas.hold_fever,
    ),
    of_examples("atlas-choice", "Atlas' multiple choice task; JSONL", reading(atlas.parse_choice)),
    of_examples("atlas-output", "what Atlas writes when it evaluates; JSONL", reading(atlas.parse_output)),
    of_examples(
        "nq-open",
        "NQ-open: {question, answer: [...]}; JSONL",
        reading(plain.parse_nq_open),
        write=writing(plain.nq_open_record),
        hold=plain.hold_nq_open,
    ),
    of_examples(
        "triviaqa",
        "TriviaQA unfiltered: {Data: [...]}",
        _read_triviaqa,
        write=_write_triviaqa,
        hold=plain.hold_triviaqa,
    ),
    of_examples("squad", "SQuAD: {data: [{title, paragraphs}]}", squad.read, write=_write_squad, hold=squad.hold),
    of_examples("squad-rows", "SQuAD as the hub has it, a question a line; JSONL", reading(squad.parse_row)),
    of_examples(
        "kilt",
        "KILT tasks: {input, output: [{answer, provenance}]}; JSONL",
        reading(kilt.parse),
        write=writing(kilt.to_record),
        hold=kilt.hold,
    ),
    of_examples(
        "pyserini",
        "pyserini's DPR run: {qid: {question, answers, contexts}}",
        pyserini.read,
        write=_write_pyserini,
        hold=pyserini.hold,
    ),
    of_examples(
        "beir", "BEIR questions: a folder of queries.jsonl and qrels", beir.read, write=beir.write, hold=beir.hold
    ),
    of_examples(
        "flashrag",
        "FlashRAG: {question, golden_answers}; JSONL",
        reading(plain.parse_flashrag),
        write=writing(plain.flashrag_record),
        hold=plain.hold_flashrag,
    ),
    of_examples(
        "tevatron",
        "Tevatron 1: positive_passages, negative_passages; JSONL",
        reading(tevatron.parse_old),
        write=writing(tevatron.old_record),
        hold=tevatron.hold_old,
    ),
    of_examples(
        "tevatron-v2",
        "Tevatron 2: positive_document_ids; JSONL",
        reading(tevatron.parse_new),
        write=writing(tevatron.new_record),
        hold=tevatron.hold_new,
    ),
    of_examples("mss", "emdr2's masked salient spans: sentences with entities; JSONL", plain.read_mss),
)
_RUNS = (
    Format("trec-run", "run", "TREC run: qid Q0 docid rank score tag"),
    Format("tevatron-run", "run", "Tevatron's run: qid, docid, score"),
    Format("trec-qrels", "qrels", "TREC judgements: qid 0 docid rel"),
    Format("beir-qrels", "qrels", "BEIR's judgements: query-id, corpus-id, score"),
)
_QUESTION_NAMES = frozenset(entry.name for entry in _EXAMPLES)


def of_corpus(source: str) -> str:
    """The name here of a corpus format; ``beir`` and ``kilt`` are questions as well, so their corpora say so."""
    return f"{source}-corpus" if source in _QUESTION_NAMES else source


def source_of(name: str) -> str:
    """The name in ``ragkit.corpus.SOURCES`` of a format of passages, which may have none of its own there."""
    names = {of_corpus(source): source for source in SOURCES}
    return names.get(name, "jsonl" if name in PASSAGE_WRITERS else name)


_CORPORA = {of_corpus(name): source.description for name, source in SOURCES.items()}
_PASSAGES = tuple(
    Format(name, "passages", _CORPORA.get(name) or PASSAGE_WRITERS[name][0], writes=name in PASSAGE_WRITERS)
    for name in {**_CORPORA, **PASSAGE_WRITERS}
)

FORMATS: dict[str, Format] = {entry.name: entry for entry in (*_EXAMPLES, *_RUNS, *_PASSAGES)}
