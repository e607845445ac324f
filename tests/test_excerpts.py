"""The part of a text around a search word."""

# ruff: noqa: RUF001 - the tests are about characters that look alike

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.internals import excerpt, fold, patterns, search_words

SCRIPTS = (
    "aZßéﬁİ９ \n\0'カﾊﾟー々漢字ひｶﾞ서울हिन्दीภาษาไทยำ❤️\u0301\u3099\u00ad\u200d½㎏\u1100\u1161\u11a8゛"
)
TEXT = st.text(st.sampled_from(SCRIPTS) | st.characters(), max_size=60)
LOREM = "Lorem ipsum dolor sit amet. " * 200


def test_a_short_text_is_its_own_excerpt_on_one_line():
    assert excerpt(" One\n\n two\u2028three\t", {"two"}) == "One two three"


def test_a_text_without_the_words_gives_its_start():
    found = excerpt(LOREM, {"missing"})
    assert LOREM.startswith(found.removesuffix("…"))
    assert found.endswith("…")
    assert excerpt("", {"missing"}) == ""


@pytest.mark.parametrize(
    "text",
    [f"{LOREM}needle {LOREM}", f"needle {LOREM}", f"{LOREM}needle", "a" * 5000 + " needle"],
)
def test_an_excerpt_shows_the_word_and_marks_the_ends_that_were_cut(text):
    found = excerpt(text, {"needle"})
    assert "needle" in found
    assert 60 < len(found) <= 160
    assert found.startswith("…") == (not text.startswith("needle"))
    assert found.endswith("…") == (not text.endswith("needle"))


def test_a_text_with_spaces_is_cut_at_spaces():
    found = excerpt(f"{LOREM}needle {LOREM}", {"needle"})
    assert set(found.strip("…").split()) <= {*LOREM.split(), "needle"}


@pytest.mark.parametrize(
    ("text", "word", "shown"),
    [
        ("die Straße", "strasse", "Straße"),
        ("ein Büro", "büro", "Büro"),
        ("a ﬁn", "fin", "ﬁn"),
        ("ＡＢＣ", "abc", "ＡＢＣ"),
        ("ﾊﾟﾝ", "パン", "ﾊﾟﾝ"),
        ("Cafe\u0301", "café", "Cafe\u0301"),
    ],
)
def test_the_word_is_shown_as_the_text_spells_it(text, word, shown):
    found = excerpt("ﬁ½㎏ " * 900 + text + " ﬁ½㎏" * 900, {word})
    assert shown in found
    assert len(found) <= 160


@pytest.mark.parametrize("filler", ["漢字。", "京都で", "ภาษา"])
def test_a_text_without_spaces_is_cut_between_characters(filler):
    found = excerpt(filler * 700 + "東京" + filler * 700, search_words("東京"))
    assert "東京" in found
    assert 100 < len(found) <= 160


@pytest.mark.parametrize("before", ["", "a"])
@pytest.mark.parametrize("after", ["", "a"])
def test_no_excerpt_parts_a_character_from_its_mark(before, after):
    found = excerpt("ดี" * 200 + before + "東京" + after + "ดี" * 200, {"東京"})
    assert found[:2] == "…ด"
    assert found[-2:] == "ี…"


@pytest.mark.parametrize("size", [1990, 1998, 1999, 2000, 3400])
def test_a_word_is_found_where_two_blocks_of_the_text_meet(size):
    assert "東京" in excerpt("漢" * size + "東京" + "漢" * 3000, {"東京"})
    assert "needle" in excerpt("a " * (size // 2) + "needle" + " a" * 3000, {"needle"})


def test_a_single_character_counts_if_the_text_has_no_pair():
    assert "京" in excerpt("漢" * 500 + "京" + "漢" * 500, {"東", "京", "東京"})


def test_a_text_of_megabytes_is_searched_in_blocks():
    assert excerpt("漢字仮名" * 300_000 + "needle", {"needle"}).endswith("needle")


@given(TEXT, TEXT)
def test_an_excerpt_contains_a_word_of_the_text(one, other):
    text = f"{'filler ' * 30}{one} {other}{' filler' * 30}"
    words = search_words(one) | search_words(other)
    found = excerpt(text, words)
    assert len(found.splitlines()) == 1
    assert len(found) <= 160
    assert not words or not words.isdisjoint(search_words(found))


@given(TEXT)
def test_folding_each_cluster_gives_the_same_as_folding_the_text(text):
    """Otherwise the place of a folded word in the text would be wrong."""
    assert "".join(map(fold, patterns().cluster.findall(text))) == fold(text)
