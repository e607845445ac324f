"""The search words of turns, as the search index has them: short hashes.

An index of hashes has no content of a conversation, and no word is too long for it. Two words with
one hash do no harm, because the index only proposes turns, and a search reads each of them.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from hashlib import blake2b

from tower_memory._search_words import search_words
from tower_memory._stores.search_text import join_texts, message_text_of


def words_of(array: bytes, added: str) -> str:
    """Return the words of a turn, whose items are the JSON *array*; *added* is additional text."""
    return " ".join(hashes_of(search_words(join_texts(message_text_of(array), added))))


def hashes_of(words: Iterable[str]) -> list[str]:
    """Return the hashes of *words*, in ascending order: 8 ASCII characters each."""
    return sorted(set(map(_hash, words)))


def _hash(word: str) -> str:
    return urlsafe_b64encode(blake2b(word.encode(), digest_size=6).digest()).decode()
