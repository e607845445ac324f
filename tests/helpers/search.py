"""The search index of a file, read from outside of the store."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from msgspec import json

from helpers.internals import search_words, turn_text
from helpers.sqlite import query


def extra_text(item):
    """Return additional text of an item, as the parameter *text_of* does."""
    return item.get("extra") if isinstance(item, dict) else None


def has_index(path):
    """Return True if the file at *path* has a search index."""
    return bool(query(path, "SELECT 1 FROM sqlite_master WHERE name = 'memory_index'"))


def built(path):
    """Return the rows up to which the index was built, and to be built."""
    ((built_to, build_until),) = query(path, "SELECT built_to, build_until FROM memory_index")
    return built_to, build_until


def index_of(path):
    """Return the words of each row in the index of the file at *path*, of rows with words."""
    words = {}
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO memory_words (memory_words) VALUES ('integrity-check')")
        connection.rollback()
        connection.execute(
            "CREATE VIRTUAL TABLE temp.found USING fts5vocab(main, memory_words, instance)"
        )
        for word, row in connection.execute("SELECT term, doc FROM temp.found"):
            words.setdefault(row, set()).add(word)
    return words


def check_index(path, text_of=extra_text):
    """Fail unless the index has exactly the words of the turns that should be in it."""
    built_to, build_until = built(path)
    expected = {}
    turns = query(path, "SELECT id, CAST(items AS BLOB) FROM memory_turn")
    for row, array in turns:
        items = json.decode(array)
        texts = [turn_text(items), *(text_of(item) or "" for item in items)]
        words = search_words("\n".join(texts))
        if words and (row <= built_to or row > build_until):
            expected[row] = words
    assert index_of(path) == expected

    kept = {row for (row,) in query(path, "SELECT turn FROM memory_text")}
    assert kept <= {row for row, _ in turns}
