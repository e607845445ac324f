"""Excerpts: the part of a text around a search word, in the text's own spelling.

1. Folding changes lengths, so an index in a folded text is none in the text itself. Therefore a
   text is folded cluster by cluster, and the index of each cluster is noted. A cluster is a
   character with its marks: folding it alone gives the same as folding it within its text.
2. Clusters are slow. Therefore a long text is read in blocks, as search words, and only the block
   with the first word is read in clusters.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from collections.abc import Set as AbstractSet
from typing import Final
from unicodedata import category

from tower_memory._search_words import LONGEST, fold, patterns, search_words

_BLOCK: Final = 2_000
"""Maximum number of characters of a block."""

_OVERLAP: Final = 600
"""Number of characters that the next block repeats if a block is cut within a word."""

_LOOK: Final = 1_000
"""Number of characters that are read before the word, and from the word on."""

_ROOM: Final = 158
"""Maximum number of characters of an excerpt, without the signs of its two cut ends."""

_ROOM_BEFORE: Final = 60
"""Maximum number of characters before the word, if the text behind it fills the rest."""

_PAIR: Final = 2
_ASCII_WORD: Final = re.compile("[a-z0-9]+")
_SPACE: Final = re.compile(r"\s+")
_TO_LAST_SPACE: Final = re.compile(r".*\s", re.DOTALL)


def excerpt(text: str, words: Collection[str]) -> str:
    r"""Return a part of *text* around the first of *words*, on one line.

    White space becomes a single space. An end that was cut has the sign ``…``. The part is the
    start of *text* if it contains none of *words*.

    >>> from tower_memory.store_toolkit import excerpt
    >>> excerpt("One\n\ntwo.", {"two"})
    'One two.'

    Args:
        text: The text of a turn.
        words: The search words of a query.

    Returns:
        At most 160 characters.
    """
    text = text.strip()
    place = _first_place(text, words)
    before = _SPACE.sub(" ", text[max(0, place - _LOOK) : place])
    after = _SPACE.sub(" ", text[place : place + _LOOK])

    kept_before = _end_of(before, max(_ROOM_BEFORE, _ROOM - len(after)))
    kept_after = _start_of(after, _ROOM - len(kept_before))
    cut_before = len(kept_before) < len(before) or place > _LOOK
    cut_after = len(kept_after) < len(after) or place + _LOOK < len(text)
    return "…" * cut_before + kept_before + kept_after + "…" * cut_after


def _start_of(line: str, room: int) -> str:
    """Return the start of *line*, of at most *room* characters, cut at a space if there is one."""
    if len(line) <= room:
        return line

    end = line.rfind(" ", room // 2, room + 1)
    if end < 0:
        end = room
        while category(line[end])[0] == "M":  # a mark and its character are cut together
            end -= 1
    return line[:end]


def _end_of(line: str, room: int) -> str:
    """Return the end of *line*, of at most *room* characters, cut at a space if there is one."""
    if len(line) <= room:
        return line

    start = line.find(" ", len(line) - room - 1, len(line) - room // 2) + 1
    if not start:
        start = len(line) - room
        while start < len(line) and category(line[start])[0] == "M":
            start += 1
    return line[start:]


def _first_place(text: str, words: Collection[str]) -> int:
    """Return the index in *text* of the first of *words*; 0 if there is none.

    A pair of characters is looked for as a pair: its single characters count only if the text has
    no pair.
    """
    single = {char for word in words if len(word) == _PAIR and _is_run(word) for char in word}
    for wanted in ({*words} - single, {*words}):
        for start, block in _blocks(text):
            if not wanted.isdisjoint(search_words(block)):
                return start + _place(block, wanted)
    return 0


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """Yield all blocks of *text* with their places.

    Folding changes lengths, so only the block of the first word is searched by characters. A block
    ends at a space. A long block without a space is cut anywhere, and the next block repeats its
    end, so that each word is whole in one of them.
    """
    start = 0
    while len(text) - start > _BLOCK:
        block = text[start : start + _BLOCK]
        to_space = _TO_LAST_SPACE.match(block)
        yield start, to_space[0] if to_space else block
        start += to_space.end() if to_space else _BLOCK - _OVERLAP
    yield start, text[start:]


def _place(block: str, wanted: AbstractSet[str]) -> int:
    """Return the index in *block* of the first word in *wanted*, which *block* contains."""
    if block.isascii():
        words = _ASCII_WORD.finditer(block.lower())
        return next(word.start() for word in words if word[0][:LONGEST] in wanted)

    compiled = patterns()
    folded: list[str] = []
    indexes: list[int] = []  # for each folded character, that of its cluster in the block
    for cluster in compiled.cluster.finditer(block):
        folded.append(fold(cluster[0]))
        indexes += [cluster.start()] * len(folded[-1])

    found = (
        match.start() + index
        for match in compiled.either.finditer("".join(folded))
        for index in _places_in(match[0], wanted)
    )
    return indexes[next(found)]


def _places_in(found: str, wanted: AbstractSet[str]) -> list[int]:
    """Return the increasing places of words in *wanted* within *found*, a word or a run."""
    if not _is_run(found):
        return [0] if found[:LONGEST] in wanted else []
    sizes = (1, _PAIR)
    return [
        index
        for index in range(len(found))
        if any(found[index : index + size] in wanted for size in sizes)
    ]


def _is_run(word: str) -> bool:
    return not word.isascii() and patterns().run.match(word) is not None
