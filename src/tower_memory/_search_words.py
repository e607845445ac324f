"""Search words: the words of a text, as `SessionSearch` finds them.

1. A store finds a turn by its search words alone. An index and a scan call the same function, so an
   index never changes the hits.
2. A text is folded first: normalised (NFKC), without characters that are ignorable by default, and
   without case. Folding a folded text changes nothing.
3. A word is a letter or digit with the letters, digits and marks that follow it. Every other
   character separates words: spaces, signs, ``_``, emoji and their enclosing marks, and code points
   that Unicode has not assigned.
4. In scripts without spaces, a run is a sequence of such letters, digits and marks. Its words are
   its single characters and its pairs of neighbouring characters.
5. SQLite's tokenizer ``ascii`` reads each word as one token, because a word has only ASCII letters,
   ASCII digits and non-ASCII characters. SQLite cuts a token after 32,768 bytes, so only the first
   `LONGEST` characters of a word count.
6. If two texts are joined by a space, the words of the whole are the words of both texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from itertools import groupby
from operator import add
from typing import Final, NamedTuple
from unicodedata import category, normalize

from tower_memory._arguments import check_text

LONGEST: Final = 255
"""Maximum number of characters of a search word."""

_IGNORABLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Default_Ignorable_Code_Point of the Unicode Character Database: invisible characters.

Unicode removes them where it compares text without case (Unicode Standard, section 3.13).
"""

_WITHOUT_SPACES: Final = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan, which separates syllables
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FDF),  # radicals of Han
    (0x3000, 0x312F),  # Han's iteration marks and numerals, Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),  # Bopomofo, Katakana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),  # Han
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0xF900, 0xFAFF),  # Han
    (0x116D0, 0x116FF),  # Myanmar
    (0x11700, 0x1174F),  # Ahom
    (0x16FE2, 0x16FFF),  # Han's iteration marks
    (0x1AFF0, 0x1B16F),  # Hiragana, Katakana
)
"""First and last code points of the scripts without spaces, apart from `_PLANES_OF_HAN`.

These are the blocks of the characters with Line_Break=SA, or with one of the named scripts, in
LineBreak.txt and Scripts.txt of the Unicode Character Database. Only their letters, digits and
marks belong to words. Korean has spaces.
"""

_IGNORED: Final = re.compile(f"[{_IGNORABLE}]+")

_PLANES_OF_HAN: Final = "\U00020000-\U0003fffd"

_MARKS: Final = range(0x300, 0x20000)
"""Code points that may be marks, apart from those that are ignorable."""

_INNER: Final = ("Mn", "Mc")
"""Categories of the marks that belong to a word; an enclosing mark makes a sign of a digit."""

_JOINED: Final = "\u1160-\u11ff\uff9e\uff9f"
"""Letters that folding joins to the letter before: parts of Korean syllables, Japanese marks."""

_LATIN: Final = re.compile("[\0-\u02ff\u2000-\u20cf]*")
_LATIN_WORD: Final = re.compile(r"[^\W_]+")
"""Folded text of Latin letters and usual signs, which has no marks and no runs; a word of it."""

_ASCII_WORDS: Final = {
    code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)
}


def search_words(text: str) -> set[str]:
    """Return the search words of *text*; an empty set if it has none.

    >>> from tower_memory.store_toolkit import search_words
    >>> sorted(search_words("The cat's CAFÉ"))
    ['café', 'cat', 's', 'the']
    >>> sorted(search_words("東京"))
    ['京', '東', '東京']
    """
    words = _words_of_any_length(text)
    if too_long := [word for word in words if len(word) > LONGEST]:
        words.difference_update(too_long)
        words.update(word[:LONGEST] for word in too_long)
    return words


def query_words(text: str) -> set[str]:
    """Return the search words of *text*, the text of a search; at least one.

    Raises:
        TypeError: *text* is no string.
        ValueError: *text* contains no word, or a lone surrogate.
    """
    if text != "":  # the empty text gets the error below
        check_text("text", text)
    if words := search_words(text):
        return words
    msg = f"text must contain a word, of letters or digits, got {len(text)} characters without one"
    raise ValueError(msg)


def _words_of_any_length(text: str) -> set[str]:
    if text.isascii():
        return set(text.translate(_ASCII_WORDS).split())

    folded = fold(text)
    if _LATIN.fullmatch(folded):
        return set(_LATIN_WORD.findall(folded))

    compiled = patterns()
    words = set(compiled.word.findall(folded))
    for run in compiled.run.findall(folded):
        words.update(run, map(add, run, run[1:]))
    return words


def fold(text: str) -> str:
    """Return *text* as words are compared (rule 2)."""
    visible = _IGNORED.sub("", text)
    return normalize("NFKC", normalize("NFKC", visible).casefold())


class Patterns(NamedTuple):
    """Patterns of words in folded text, and of clusters in any text.

    Attributes:
        word: A word of a script with spaces.
        run: A run of characters of a script without spaces.
        either: A word or a run.
        cluster: A character with its marks. Folding it alone gives the same as folding it within
            its text.
    """

    word: re.Pattern[str]
    run: re.Pattern[str]
    either: re.Pattern[str]
    cluster: re.Pattern[str]


@cache  # reading the categories takes about 60 ms; Latin text needs no patterns
def patterns() -> Patterns:
    """Return the patterns of words and clusters."""
    kinds = {code: category(chr(code)) for code in _MARKS}
    unspaced = {code for first, last in _WITHOUT_SPACES for code in range(first, last + 1)}
    in_runs = (code for code in sorted(unspaced) if kinds[code][0] in "LN" or kinds[code] in _INNER)
    in_words = (code for code in _MARKS if kinds[code] in _INNER and code not in unspaced)
    marks = (code for code in _MARKS if kinds[code][0] == "M")

    of_run = _ranges(in_runs) + _PLANES_OF_HAN
    start = rf"[^\W_{of_run}]+"
    word = rf"{start}(?:[{_ranges(in_words)}]+(?:{start})?)*"
    run = f"[{of_run}]+"
    cluster = rf"(?s:.)[{_ranges(marks)}{_JOINED}{_IGNORABLE}]*"
    return Patterns(*map(re.compile, (word, run, f"{word}|{run}", cluster)))


def _ranges(codes: Iterable[int]) -> str:
    """Return the increasing *codes* as the inside of a set in a pattern: ``a-cx-x``."""
    # Neighbouring codes have the same difference to their index.
    groups = groupby(enumerate(codes), lambda pair: pair[1] - pair[0])
    ends = ([code for _, code in group] for _, group in groups)
    return "".join(f"{chr(group[0])}-{chr(group[-1])}" for group in ends)
