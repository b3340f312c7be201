"""Released checkpoints of FiD, Atlas, DPR and Contriever, made into folders that ragkit and transformers open.

Only facts of those projects are here: the names that their files give the weights, and how their models read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, BertForQuestionAnswering, BertModel, T5ForConditionalGeneration

from ragkit.errors import ConfigError, ModelNotFound
from ragkit.reader.checkpoint_files import below, load_exactly, read_state
from ragkit.reader.fid import FusionReader
from ragkit.reader.inputs import InputOptions
from ragkit.reader.prompts import FusionOptions
from ragkit.reader.seq2seq import Seq2SeqWeights
from ragkit.reader.weights import ReaderWeights, save_weights
from ragkit.retriever.dual_encoder import DualEncoder
from ragkit.retriever.options import EncoderOptions
from ragkit.retriever.tower import Tower
from ragkit.text.models import quiet, resolve

log = logging.getLogger(__name__)

_TIED = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_CROSS_BIAS = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
_T5 = {512: "google-t5/t5-small", 768: "google-t5/t5-base", 1024: "google-t5/t5-large"}
_T5_LM = {
    512: "google/t5-small-lm-adapt",
    768: "google/t5-base-lm-adapt",
    1024: "google/t5-large-lm-adapt",
    2048: "google/t5-xl-lm-adapt",
    4096: "google/t5-xxl-lm-adapt",
}
_BERT = {768: "google-bert/bert-base-uncased", 1024: "google-bert/bert-large-uncased"}
_ATLAS_QUESTION = "question: {text} answer: <extra_id_0>"

_DPR = EncoderOptions(
    pooling="cls", passage_template="{title} [SEP] {text}", query_max_length=256, passage_max_length=256
)
_CONTRIEVER = EncoderOptions(query_max_length=64, passage_max_length=256)
_ATLAS = EncoderOptions(query_template=_ATLAS_QUESTION, query_max_length=512, passage_max_length=512)


def import_checkpoint(
    source: Path | str,
    target: Path | str,
    *,
    kind: str | None = None,
    base: str | None = None,
    retriever_base: str | None = None,
) -> str:
    """Write the model of a released checkpoint at ``target``; returns its kind, one of :data:`KINDS`.

    ``source`` is the file (or the folder that has it); ``kind`` None is seen from the names of its weights. A ``fid``
    becomes a FiD reader, a ``dpr_reader`` an extractive one, ``dpr`` and ``contriever`` retrievers; of an ``atlas``
    the reader is written to ``target/reader`` and the retriever to ``target/retriever``. ``base`` is the model it was
    trained from (a reference; its configuration and tokenizer are used, its weights are not), ``retriever_base`` that
    of Atlas' retriever; None: the published one of that width, from the hub.

    Raises ConfigError for an unknown kind and for weights that do not fit the base, InputError for a file that cannot
    be opened safely, ModelNotFound where there is no file or no base.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in read_state(Path(source)).items()}
    kind = kind or checkpoint_kind(state)
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of checkpoint {kind!r}; choose from {sorted(KINDS)}")
    bases = {"base": base, "retriever_base": retriever_base}
    KINDS[kind](state, Path(target), bases, f"{source} ({kind})")
    return kind


def checkpoint_kind(state: Mapping[str, Tensor]) -> str:
    """Which project's a checkpoint is, by the names of its weights; ConfigError where they are of none."""
    signs = {
        "atlas": ("reader.", "retriever."),
        "dpr": ("question_model.", "ctx_model."),
        "dpr_reader": ("qa_classifier.",),
        "fid": ("encoder.encoder.block.", "encoder.block."),
        "contriever": ("encoder_q.", "encoder.embeddings.", "embeddings.word_embeddings."),
    }
    for kind, prefixes in signs.items():
        if any(name.startswith(prefixes) for name in state):
            return kind
    raise ConfigError(
        f"these weights are of none of {sorted(signs)}: {sorted(state)[:3]}; if they are, say which with kind="
    )


def _fid(state: Mapping[str, Tensor], target: Path, bases: Mapping[str, str | None], what: str) -> None:
    """FiD wraps T5's encoder in one module and each of its blocks in another."""
    names = {name: name.removeprefix("encoder.") if name.startswith("encoder.encoder.") else name for name in state}
    plain = {short.replace(".module.layer.", ".layer."): state[name] for name, short in names.items()}
    _save_reader(plain, target, bases["base"] or _known(_T5, plain, "shared.weight", what), FusionOptions(), what=what)


def _atlas(state: Mapping[str, Tensor], target: Path, bases: Mapping[str, str | None], what: str) -> None:
    """Atlas has both models in one file; a retriever trained on the query side alone has two encoders."""
    plain = {name.replace("retriever.module.", "retriever.").replace("reader.module.", "reader."): tensor
             for name, tensor in state.items()}  # fmt: skip
    reader = below(plain, "reader.")
    if reader:
        options = FusionOptions(max_length=512, max_question=64, question=_ATLAS_QUESTION, answer_start="<extra_id_0>")
        base = bases["base"] or _known(_T5_LM, reader, "shared.weight", what)
        _save_reader(reader, target / "reader", base, options, what=what)
    shared = below(plain, "retriever.contriever.")
    query, passage = below(plain, "retriever.query_contriever."), below(plain, "retriever.passage_contriever.")
    sides = (shared, None) if shared else (query, passage)
    if sides[0]:
        base = bases["retriever_base"] or "facebook/contriever"
        _save_encoder(sides, target / "retriever", base, _ATLAS, what=what)
    if not reader and not sides[0]:
        raise ConfigError(f"{what} has neither reader. nor retriever. weights; they begin {sorted(state)[:3]}")


def _dpr(state: Mapping[str, Tensor], target: Path, bases: Mapping[str, str | None], what: str) -> None:
    sides = below(state, "question_model."), below(state, "ctx_model.")
    base = bases["base"] or _known(_BERT, sides[0], "embeddings.word_embeddings.weight", what)
    _save_encoder(sides, target, base, _DPR, what=what)


def _contriever(state: Mapping[str, Tensor], target: Path, bases: Mapping[str, str | None], what: str) -> None:
    """Plain, or as saved in training: MoCo's query encoder (not its momentum copy), or in-batch training's."""
    for prefix in ("encoder_q.", "encoder."):
        if f"{prefix}embeddings.word_embeddings.weight" in state:
            state = below(state, prefix)
            break
    base = bases["base"] or _known(_BERT, state, "embeddings.word_embeddings.weight", what)
    _save_encoder((state, None), target, base, _CONTRIEVER, what=what)


def _dpr_reader(state: Mapping[str, Tensor], target: Path, bases: Mapping[str, str | None], what: str) -> None:
    encoder = {f"bert.{name}": tensor for name, tensor in _without_pooler(below(state, "encoder.")).items()}
    heads = {name: tensor for name, tensor in state.items() if name.startswith("qa_outputs.")}
    base = bases["base"] or _known(_BERT, encoder, "bert.embeddings.word_embeddings.weight", what)
    config, tokenizer = _base(base)
    selection = nn.Linear(config.hidden_size, 1)
    selection.load_state_dict(
        load_exactly(lambda: nn.Linear(config.hidden_size, 1), below(state, "qa_classifier."), what=what)
    )
    model = BertForQuestionAnswering(config)
    model.load_state_dict(
        load_exactly(lambda: BertForQuestionAnswering(config), encoder | heads, what=what), strict=False
    )
    options = InputOptions(max_length=min(350, config.max_position_embeddings), segments=False)
    save_weights(ReaderWeights(model, selection, tokenizer, options, 10, is_trained=True), target)


# what each kind of checkpoint becomes; the arguments are its weights, the target, the bases and its name in errors
KINDS: dict[str, Callable[[Mapping[str, Tensor], Path, Mapping[str, str | None], str], None]] = {
    "fid": _fid,
    "atlas": _atlas,
    "dpr": _dpr,
    "dpr_reader": _dpr_reader,
    "contriever": _contriever,
}


def _known(bases: Mapping[int, str], state: Mapping[str, Tensor], name: str, what: str) -> str:
    """The published base model of the width of ``state[name]``."""
    if name not in state:
        raise ConfigError(f"{what} has no weight {name}; its names begin {sorted(state)[:3]}; is the kind right?")
    width = state[name].shape[-1]
    if width not in bases:
        raise ConfigError(f"{what} is {width} wide, like no published base; say what it was trained from with base=")
    return bases[width]


def _base(reference: str) -> tuple[Any, Any]:
    """Configuration and tokenizer of a base model."""
    with quiet():
        folder = resolve(reference)
        try:
            return AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise ModelNotFound(f"the base model {reference} cannot be opened: {error}") from error


def _save_reader(state: Mapping[str, Tensor], target: Path, base: str, options: FusionOptions, *, what: str) -> None:
    """A T5's weights as a FiD reader. Its cross-attention has no position bias, which T5 in transformers < 4 had."""
    config, tokenizer = _base(base)
    if state.get(_CROSS_BIAS) is not None:
        log.warning(
            "%s has a position bias in its cross-attention, a mistake of transformers before version 4; it is left "
            "out: it told apart only the first few tokens of the first passage, and T5 has none",
            what,
        )
    kept = {name: tensor for name, tensor in state.items() if name not in (*_TIED, _CROSS_BIAS)}
    tied = (*_TIED, "lm_head.weight")
    weights = load_exactly(lambda: T5ForConditionalGeneration(config), kept, what=what, may_lack=tied)
    auto: Any = T5ForConditionalGeneration
    with quiet():
        model = auto.from_pretrained(None, config=config, state_dict=weights)
    FusionReader(Seq2SeqWeights(model, tokenizer, options), device="cpu", dtype="float32").save_pretrained(target)


def _save_encoder(
    sides: tuple[Mapping[str, Tensor], Mapping[str, Tensor] | None],
    target: Path,
    base: str,
    options: EncoderOptions,
    *,
    what: str,
) -> None:
    """One or two BERTs (the second None: shared) as a retriever, with DPR's projection where there is one."""
    config, tokenizer = _base(base)
    towers = [_tower(side, config, tokenizer, what=what) for side in sides if side is not None]
    most = min(tower.max_positions for tower in towers)
    limits = {name: min(getattr(options, name), most) for name in ("query_max_length", "passage_max_length")}
    DualEncoder(towers[0], towers[-1], options.changed(limits)).save_pretrained(target)


def _tower(state: Mapping[str, Tensor], config: Any, tokenizer: Any, *, what: str) -> Tower:
    projected = below(state, "encode_proj.")
    state = {name: tensor for name, tensor in _without_pooler(state).items() if not name.startswith("encode_proj.")}
    model = BertModel(config, add_pooling_layer=False)
    loaded = load_exactly(lambda: BertModel(config, add_pooling_layer=False), state, what=what)
    model.load_state_dict(loaded, strict=False)  # position_ids are no weights
    projection = None
    if projected:
        projection = nn.Linear(config.hidden_size, len(projected["weight"]))
        projection.load_state_dict({name: tensor.float() for name, tensor in projected.items()})
    return Tower(model, tokenizer, projection=projection).eval()


def _without_pooler(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A BERT's weights without its pooler, which no retriever uses, and without the buffer of positions."""
    return {
        name: tensor
        for name, tensor in state.items()
        if not name.startswith("pooler.") and name != "embeddings.position_ids"
    }
