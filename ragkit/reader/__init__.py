"""Answering from passages."""

from ragkit.reader.causal import CausalReader
from ragkit.reader.extractive import ExtractiveReader, ReaderScores
from ragkit.reader.fid import FusionReader
from ragkit.reader.fido import FidoShape, open_fido
from ragkit.reader.generation import GenerationOptions
from ragkit.reader.inputs import InputEncoder, InputOptions, ReaderBatch, pad_spans
from ragkit.reader.likelihood import AnswerLikelihood, Given
from ragkit.reader.lora import LoraOptions
from ragkit.reader.open import open_reader, require_trained
from ragkit.reader.places import answer_places
from ragkit.reader.prompts import FusionOptions
from ragkit.reader.protocol import (
    AttendingReader,
    ContextKeeper,
    EncodingReader,
    Explain,
    ExplainingReader,
    MassKind,
    Reader,
    ScoringReader,
)
from ragkit.reader.reading import Answer, Reading
from ragkit.reader.spans import Span, best_spans, token_spans

__all__ = [
    "Answer",
    "AnswerLikelihood",
    "AttendingReader",
    "CausalReader",
    "ContextKeeper",
    "EncodingReader",
    "Explain",
    "ExplainingReader",
    "ExtractiveReader",
    "FidoShape",
    "FusionOptions",
    "FusionReader",
    "GenerationOptions",
    "Given",
    "InputEncoder",
    "InputOptions",
    "LoraOptions",
    "MassKind",
    "Reader",
    "ReaderBatch",
    "ReaderScores",
    "Reading",
    "ScoringReader",
    "Span",
    "answer_places",
    "best_spans",
    "open_fido",
    "open_reader",
    "pad_spans",
    "require_trained",
    "token_spans",
]
