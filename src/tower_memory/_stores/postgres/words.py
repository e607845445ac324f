"""The search words of turns, as the search index has them: hashes of 64 bits.

An index of hashes has no content of a conversation, and no word is too long for it. Two words with
one hash do no harm, because the index only proposes turns, and a search reads each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from tower_memory._search_words import search_words
from tower_memory._stores.postgres.tables import NOT_INDEXED
from tower_memory._stores.search_text import join_texts, message_text_of


def words_of(array: bytes, added: str) -> list[int]:
    """Return the words of a turn, whose items are the JSON *array*; *added* is additional text."""
    return hashes_of(search_words(join_texts(message_text_of(array), added)))


def hashes_of(words: Iterable[str]) -> list[int]:
    """Return the hashes of *words*, in ascending order."""
    return sorted(set(map(_hash, words)))


def is_indexed(words: Sequence[int]) -> bool:
    """Return True if a row with these *words* is in the index."""
    return list(words) != [NOT_INDEXED]


def _hash(word: str) -> int:
    digest = blake2b(word.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
