"""Plain text from wiki markup: what a reader sees as prose, and nothing else."""

from __future__ import annotations

import pytest

from ragkit.corpus.sources.wikitext import plain_text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("'''Bold''' and ''italic'' text", "Bold and italic text"),
        ("''Animal Farm'''s pigs", "Animal Farm's pigs"),
        ("a [[link]] and a [[Target page|label]]s", "a link and a labels"),
        ("an [http://x.org outside link] [http://x.org]", "an outside link"),
        ("before[[File:a.jpg|thumb|A [[caption]] here]] after[[Category:Things]]", "before after"),
        ("text{{Infobox|a=[[b]]|c={{d}}}} goes on.{{sfn|Smith|2007}}", "text goes on."),
        ('fact<ref name="x">a source</ref>, fact<ref name="x" />.', "fact, fact."),
        ("up\n{| class=wikitable\n! head\n|-\n| cell || {{x}}\n|}\ndown", "up\ndown"),
        ("a<!-- comment -->b", "ab"),
        ("5&nbsp;km &amp; 3 &lt; 4", "5 km & 3 < 4"),
        ("one<br/>two", "one\ntwo"),
        ("{{lang|el|x}} (from {{lang|el|y}}, see below) (; {{IPA|z}}) end", "(from, see below) end"),
        ("* item\n# number\n: indented", "item\nnumber\nindented"),
        ("__NOTOC__text<math>x^2</math>", "text"),
        ("an [[Image:x.png]]", "an"),
    ],
)
def test_markup_leaves_its_prose(markup: str, text: str) -> None:
    """A passage of `{{cite web |url=` matches every query about citations."""
    assert plain_text(markup) == text


def test_sections_that_only_list_are_left_out_with_their_subsections() -> None:
    """Half of an article's words can be its bibliography."""
    markup = "Lead.\n== History ==\nPast.\n== References ==\nlist\n=== Notes on it ===\nmore\n== Today ==\nNow."
    assert plain_text(markup) == "Lead.\nPast.\nNow."


def test_unbalanced_quote_marks_do_not_keep_the_markup_around_them() -> None:
    """Read as style, one unclosed pair makes the parser return all that stands between as raw text."""
    markup = "The ''Reader' (1977)<ref>page 3</ref>\n{|\n| ''cell\n|}\nand [[Link|label]]."
    assert plain_text(markup) == "The Reader' (1977)\nand label."


def test_a_wikis_own_names_of_files_and_categories_are_respected() -> None:
    """`[[Datei:...]]` would otherwise read as a link with its label: thumb|mini|..."""
    markup = "Text [[Datei:a.jpg|mini|Bild]][[Kategorie:Ort]]"
    assert plain_text(markup, hidden=frozenset({"datei", "kategorie"})) == "Text"
