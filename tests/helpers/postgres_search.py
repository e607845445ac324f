"""Internals of the search in the Postgres store: the only tests' way to these private names."""

from __future__ import annotations

from msgspec import json

from helpers.internals import search_words, turn_text
from tower_memory._codec import ItemCodec
from tower_memory._stores.clock import Deadline
from tower_memory._stores.postgres import proposals, schema, server_store
from tower_memory._stores.postgres.link import Link
from tower_memory._stores.postgres.search import search
from tower_memory._stores.postgres.tables import NOT_INDEXED
from tower_memory._stores.postgres.words import hashes_of
from tower_memory._stores.search_text import TextReader
from tower_memory._stores.sql.searching import Wanted

MARK = NOT_INDEXED
"""The words of a turn that is not in the search index."""


def expected_words(array):
    """Return the words of a turn in the index, whose items are the JSON *array*."""
    return " ".join(hashes_of(search_words(turn_text(json.decode(array)))))


def index_one_turn_at_a_time(monkeypatch):
    """Let each transaction add one turn to the search index."""
    monkeypatch.setattr(server_store, "_PART_LENGTH", 1)


def stop_long_statements_at_once(monkeypatch):
    """Let statements without a window be stopped after a short time."""
    monkeypatch.setattr(proposals, "_AT_ONCE_TIME", 0.05)


def search_in_steps(url, text, *, limit=20):
    """Yield after each step of a search for the word *text*; return its hits."""
    wanted = Wanted(frozenset([text]), "", limit, None, TextReader(ItemCodec(object), None))
    link = Link(url, "public", schema.prepare)
    try:
        hits, _ = yield from search(link.connection(Deadline(30)), wanted)
    finally:
        link.drop()
    return hits


def finish(steps):
    """Run the rest of a search in steps, and return its hits."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
