"""ragkit.text.templates."""

from __future__ import annotations

import pytest

from ragkit.errors import ConfigError
from ragkit.text.templates import QUERY_FIELDS, Template
from ragkit.types import Passage


@pytest.mark.parametrize(
    ("pattern", "titled", "untitled"),
    [
        ("{title}. {text}", "T. x", "x"),
        ("{title} [SEP] {text}", "T [SEP] x", "x"),
        ("passage: {title} {text}", "passage: T x", "passage: x"),
        ("title: {title} text: {text}", "title: T text: x", "text: x"),
        ("title: {title} | text: {text} end", "title: T | text: x end", "text: x end"),
        ("{text} ({title})", "x (T)", "x"),
        ("{text}", "x", "x"),
        ("{{a}} {title}: {text}", "{a} T: x", "{a} x"),
    ],
)
def test_a_missing_title_leaves_no_trace(pattern: str, titled: str, untitled: str):
    """A stray separator is a token the encoder never saw in training."""
    template = Template(pattern)
    assert template.render("x", title="T") == titled
    assert template.render("x") == untitled
    assert template.render_passage(Passage("1", "x", " \n")) == untitled


def test_text_with_braces_is_text():
    """Formatting a passage that holds {title} must not fill it in."""
    assert Template("{title}. {text}").render("{title} {0}", title="{text}") == "{text}. {title} {0}"


def test_an_unknown_field_lists_the_known():
    """A misspelt field must not become literal text."""
    with pytest.raises(ConfigError, match=r"unknown field \{titel\} .*choose from \('title', 'text'\)"):
        Template("{titel}. {text}")
    with pytest.raises(ConfigError, match=r"choose from \('text',\)"):
        Template("{title} {text}", QUERY_FIELDS)


@pytest.mark.parametrize(
    "pattern", ["{title}", "", "{text} {text}", "{text", "{text:>9}", "{text!r}", "{0}", "{}", "{text.x}"]
)
def test_a_pattern_that_cannot_be_filled_is_refused_when_it_is_made(pattern: str):
    """Not at the first passage, after the corpus was read."""
    with pytest.raises(ConfigError):
        Template(pattern)


def test_the_prefix_is_what_stands_before_the_first_field():
    """It is saved as sentence-transformers' prompt."""
    assert Template("query: {text}").prefix == "query: "
    assert Template("{title} {text}").prefix == ""
    assert Template("{{a}} {text}").prefix == "{a} "


def test_has_title_tells_whether_the_title_is_used():
    """A corpus of titles under a template without them loses them in silence unless somebody asks."""
    assert Template("{title} {text}").has_title
    assert not Template("{{a}} {text}").has_title
