"""The words of a text, as a search finds them."""

# ruff: noqa: RUF001 - the tests are about characters that look alike

from __future__ import annotations

import sqlite3
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.internals import query_words, search_words

SCRIPTS = "aZßéﬁİ９１_- \n\0'カﾊﾟー々漢字東京ひらｶﾞ서울हिन्दीعربيภาษาไทยខ្មែរမြန်བོད་❤️👨‍👩‍👧\u0301\u3099\u00ad\u200d½㎏"
TEXT = st.text(st.sampled_from(SCRIPTS) | st.characters(), max_size=40)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat's mat, the CAT!", {"the", "cat", "s", "mat"}),
        ("snake_case e-mail x2", {"snake", "case", "e", "mail", "x2"}),
        ("STRASSE straße", {"strasse"}),
        ("ﬁn FIN", {"fin"}),
        ("ＡＢＣ１２", {"abc12"}),
        ("Café Cafe\u0301", {"café"}),
        ("5㎏ ½", {"5kg", "1", "2"}),
        ("Wort\u00adteil", {"wortteil"}),
        ("“quoted” – don’t", {"quoted", "don", "t"}),
        ("हिन्दी में", {"हिन्दी", "में"}),
        ("مَرحبا بالعالم", {"مَرحبا", "بالعالم"}),
        ("서울 날씨", {"서울", "날씨"}),
        ("東京", {"東", "京", "東京"}),
        ("東、京", {"東", "京"}),
        ("ﾊﾟﾝ", {"パ", "ン", "パン"}),
        ("時々", {"時", "々", "時々"}),
        ("ラー", {"ラ", "ー", "ラー"}),
        ("葛\U000e0100城", {"葛", "城", "葛城"}),
        ("Pythonで書く2", {"python", "で", "書", "く", "で書", "書く", "2"}),
        ("ดี", {"ด", "ี", "ดี"}),
        ("𠮷野", {"𠮷", "野", "𠮷野"}),
        ("a❤️b 👨‍👩‍👧 1️⃣", {"a", "b", "1"}),
        ("\0\ue000\U0001fffe _ ´ \u0301", set()),
        ("", set()),
    ],
)
def test_words_are_those_of_every_script(text, words):
    assert search_words(text) == words


@given(TEXT, TEXT)
def test_two_texts_with_a_space_have_the_words_of_both(one, other):
    assert search_words(f"{one} {other}") == search_words(one) | search_words(other)


@given(TEXT)
def test_a_word_has_itself_as_a_word(text):
    for word in search_words(text):
        assert word in search_words(word)


@given(TEXT)
def test_equivalent_spellings_have_the_same_words(text):
    words = search_words(text)
    assert all(
        search_words(unicodedata.normalize(form, text)) == words
        for form in ("NFC", "NFD", "NFKC", "NFKD")
    )
    assert search_words(text.casefold()) == words


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(SCRIPTS), max_size=40))
def test_the_tokenizer_of_sqlite_reads_each_word_as_one_token(text):
    words = search_words(text)
    with sqlite3.connect(":memory:") as db:
        db.execute(
            "CREATE VIRTUAL TABLE found USING fts5("
            "words, content='', detail=none, columnsize=0, tokenize='ascii')"
        )
        db.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(found, row)")
        db.execute("INSERT INTO found(rowid, words) VALUES (1, ?)", [" ".join(words)])

        assert {term for (term,) in db.execute("SELECT term FROM terms")} == words
        for word in words:
            match = db.execute("SELECT rowid FROM found WHERE found MATCH ?", [f'"{word}"'])
            assert match.fetchall() == [(1,)]
    db.close()


@pytest.mark.parametrize("letter", ["a", "é", "ह"])
def test_only_the_first_characters_of_a_long_word_count(letter):
    """SQLite cuts long tokens, so an index could otherwise find other turns than a scan."""
    assert search_words(letter * 300 + " b") == {letter * 255, "b"}
    assert search_words(letter * 40_000) == search_words(letter * 255)


def test_a_query_has_the_words_of_its_text():
    assert query_words('cat* AND "dog"') == {"cat", "and", "dog"}


@pytest.mark.parametrize("text", ["", " ", '"*-()', "❤️", "_"])
def test_a_query_without_a_word_is_refused(text):
    with pytest.raises(
        ValueError, match=f"^text must contain a word, .* got {len(text)} characters without one$"
    ):
        query_words(text)


@pytest.mark.parametrize("text", [None, 1, b"cat", ["cat"]])
def test_a_query_that_is_no_string_is_refused(text):
    with pytest.raises(TypeError, match="^text must be a string, got "):
        query_words(text)


def test_a_query_with_a_lone_surrogate_is_refused_without_its_text():
    with pytest.raises(ValueError, match="^text must be valid Unicode, .* at index 6$") as error:
        query_words("secret\ud800")
    assert "secret" not in str(error.value)
