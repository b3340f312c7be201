"""The prompt of a causal reader: what is kept, what is cut, and what text can never do."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from ragkit.errors import ConfigError, InputError
from ragkit.reader.packing import CausalOptions, PromptEncoder, PromptTemplate
from ragkit.types import Passage

from .causal_models import byte_tokenizer

TEMPLATE = PromptTemplate(instruction="Read.\n", passage="{title}: {text}\n", question="Q: {text}\n", cue="A:")
HAMLET, ROME = Passage("1", "a play by Shakespeare", "Hamlet"), Passage("2", "a city in Italy", "Rome")


def _encoder(*, chat: bool = False, **options: object) -> PromptEncoder:
    limits = {"template": TEMPLATE, "max_prompt": 100, "max_question": 20, "max_passage": 40, **options}
    return PromptEncoder(byte_tokenizer(chat=chat), CausalOptions(**limits))


def _text(encoder: PromptEncoder, question: str, *passages: Passage) -> str:
    (ids,), _ = encoder.questions([question])
    return encoder.tokenizer.decode(encoder.pack(ids, encoder.passages(passages)).ids)


def test_a_prompt_is_instruction_passages_question_and_cue():
    wanted = "Read.\nHamlet: a play by Shakespeare\nRome: a city in Italy\nQ: who wrote it\nA:"
    assert _text(_encoder(), "who wrote it", HAMLET, ROME) == wanted


def test_a_passage_without_title_leaves_no_trace_of_it():
    assert _text(_encoder(), "why", Passage("1", "no title")) == "Read.\nno title\nQ: why\nA:"


def test_a_chat_template_goes_around_all_but_the_cue():
    wanted = "<|start|>user\nRead.\nRome: a city in Italy\nQ: why\n<|end|>\n<|start|>assistant\nA:"
    assert _text(_encoder(chat=True), "why", ROME) == wanted
    system = PromptTemplate("Read.\n", TEMPLATE.passage, TEMPLATE.question, "A:", system="Be brief.")
    assert _text(_encoder(chat=True, template=system), "why").startswith("<|start|>system\nBe brief.<|end|>\n<|st")
    plain = PromptTemplate("Read.\n", TEMPLATE.passage, TEMPLATE.question, "A:", chat=False)
    assert _text(_encoder(chat=True, template=plain), "why", ROME) == "Read.\nRome: a city in Italy\nQ: why\nA:"


def test_the_best_passages_are_kept_and_the_next_one_cut_at_its_end():
    """Guards against a prompt that loses its question, or its best passage, for the sake of the last one."""
    long = Passage("3", "0123456789" * 5, "Long")
    text = _text(_encoder(max_prompt=80), "why", HAMLET, long, ROME)
    assert len(text) == 80
    assert text.startswith("Read.\nHamlet: a play by Shakespeare\nLong: 0123456789")
    assert text.endswith("\nQ: why\nA:")
    assert "Rome" not in text
    small = _text(
        _encoder(max_prompt=60, max_question=10), "why", HAMLET, long
    )  # too little room for a part of it to be worth it
    assert small == "Read.\nHamlet: a play by Shakespeare\nQ: why\nA:"


def test_a_passage_that_is_kept_for_other_questions_is_never_cut_to_fit():
    """Guards against contexts on disk that each fit one question alone."""
    long = Passage("3", "0123456789" * 5, "Long")
    encoder = _encoder(context="parallel")
    (ids,), _ = encoder.questions(["why"])
    prompt = encoder.pack(ids, encoder.passages([HAMLET, long, ROME]))
    assert len(prompt.passages) == 2
    tight = _encoder(context="parallel", max_prompt=80)
    assert len(tight.pack(ids, tight.passages([HAMLET, long, ROME])).passages) == 1


def test_a_long_passage_is_cut_at_its_end_and_keeps_the_end_of_its_template():
    (ids,) = _encoder().passages([Passage("3", "0123456789" * 5, "Long")])
    assert byte_tokenizer().decode(ids) == "Long: 012345678901234567890123456789012\n"


def test_a_long_question_is_cut_at_its_own_end_and_counted():
    encoder = _encoder()
    ids, n_cut = encoder.questions(["0123456789" * 3, "short"])
    assert n_cut == 1
    assert encoder.tokenizer.decode(ids[0]) == "Q: 01234567890123456789\n"


def test_markers_written_in_passages_and_questions_are_text():
    """Guards against a passage that ends the user's turn and gives orders."""
    encoder = _encoder()
    (ids,) = encoder.passages([Passage("1", "x <|end|> y")])
    (question,), _ = encoder.questions(["<|end|>"])
    assert encoder.end not in [*ids, *question]
    assert encoder.end in _encoder(chat=True).pack(question, []).ids  # the template's own is one


def test_an_answer_follows_the_cue_after_a_space_and_ends():
    encoder = _encoder()
    (ids,) = encoder.answers([" Rome "])
    assert ids[-1] == encoder.end
    assert encoder.tokenizer.decode(ids[:-1]) == " Rome"
    bare = PromptTemplate("Read.\n", TEMPLATE.passage, TEMPLATE.question, "")
    assert encoder.tokenizer.decode(_encoder(template=bare).answers(["Rome"])[0][:-1]) == "Rome"


def test_an_answer_without_tokens_is_named():
    with pytest.raises(InputError, match=r"no tokens: '  '"):
        _encoder().answers(["Rome", "  "])


def test_a_tokenizer_without_an_end_token_is_refused():
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="no end token"):
        PromptEncoder(tokenizer, CausalOptions())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_prompt": 40}, "leaves no room for a passage"),
        ({"max_passage": 3}, "max_passage 3 at least 16"),
        ({"stop": "\n"}, "stop must be a list"),
        ({"stop": [""]}, "stop must be a list"),
        ({"template": PromptTemplate(chat=True), "max_prompt": 500}, "has no chat template"),
        ({"template": PromptTemplate(passage="{text} ({title})"), "max_prompt": 500}, "title must stand before"),
    ],
)
def test_options_that_cannot_work_are_named(options: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        _encoder(**options)


def test_a_chat_template_that_refuses_a_system_message_is_the_users_to_settle():
    tokenizer = byte_tokenizer(chat=True)
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(ConfigError, match="no system role"):
        PromptEncoder(tokenizer, CausalOptions())


def test_a_model_that_begins_texts_with_a_token_gets_it_once():
    """Guards against a beginning that is missing, or doubled where the chat template writes it."""
    tokenizer = _with_beginning(byte_tokenizer())
    plain = PromptEncoder(tokenizer, CausalOptions(template=TEMPLATE, max_prompt=100, max_question=20))
    assert plain.head[0] == 1
    assert 1 not in [*plain.head[1:], *plain.passages([ROME])[0], *plain.pack([], []).tail]


def _with_beginning(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|start|> $A <|end|>", special_tokens=[("<|start|>", 1), ("<|end|>", 0)]
    )
    return tokenizer
