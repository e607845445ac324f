"""``tower-memory sessions``, ``show`` and ``search``."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from msgspec import json

from tower_memory import Page, SearchHit, SessionCatalog, SessionInfo, SessionSearch
from tower_memory._command.export import decode_turn, find_sessions
from tower_memory._command.export_format import turn_keys
from tower_memory._command.output import (
    escaped,
    json_time,
    number,
    padding,
    print_json,
    print_note,
    print_table,
    print_text,
    shown_time,
)
from tower_memory._command.stores import Opened, database_of, open_existing
from tower_memory._message_text import message_text
from tower_memory._metadata import decode_metadata
from tower_memory._stores.records import to_datetime
from tower_memory._stores.sql.stored import StoredSession, StoredTurn

Entry = TypeVar("Entry")

_PAGE: Final = 200
"""Maximum number of sessions or hits that are read at once."""

_ROLE_WIDTH: Final = 9
"""Columns of the role of a message."""


def list_sessions(options: argparse.Namespace) -> int:
    """Print the sessions, and return the exit status."""
    with open_existing(database_of(options)) as opened:
        infos = find_infos(opened, options.prefix, options.limit)
        if options.json:
            for info in infos:
                print_json(info_keys(info))
            return 0
        print_sessions(infos, opened.name)
    return 0


def find_infos(opened: Opened, prefix: str, limit: int | None) -> Iterator[SessionInfo]:
    """Return an iterator over the sessions with *prefix*, the last active first.

    *limit* is the maximum number of sessions; None returns all.
    """
    catalog: SessionCatalog = opened.store

    async def get_page(size: int, after: str | None) -> Page[SessionInfo]:
        return await catalog.sessions(prefix=prefix, limit=size, after=after)

    return _walk(opened, get_page, limit)


def print_sessions(infos: Iterable[SessionInfo], name: str) -> None:
    """Print a table of sessions; a note if there are none."""
    rows = [
        (info.session_id, str(info.turns), shown_time(info.updated_at), title_of(info))
        for info in infos
    ]
    if not rows:
        print_note(f"no sessions in {name}")
    print_table(("SESSION", "TURNS", "LAST CHANGE (UTC)", "TITLE"), rows)


def title_of(info: SessionInfo) -> str:
    """Return the title of a session; empty if it has none."""
    title = info.metadata.get("title", "")
    return title if isinstance(title, str) else ""


def info_keys(info: SessionInfo) -> dict[str, Any]:
    """Return the keys and values of a session for JSON."""
    return {
        "session_id": info.session_id,
        "created_at": json_time(info.created_at),
        "updated_at": json_time(info.updated_at),
        "revision": info.revision,
        "items": info.items,
        "turns": info.turns,
        "metadata": dict(info.metadata),
        "forked_from": info.forked_from,
    }


def show_session(options: argparse.Namespace) -> int:
    """Print the messages of a session, and return the exit status."""
    with database_of(options).read() as snapshot:
        (session,) = find_sessions(snapshot, [options.id])
        shown: Iterable[StoredTurn] = snapshot.turns(session)
        if options.last is not None:
            shown = deque(shown, maxlen=options.last)

        if not options.json:
            _print_head(session)
        for turn in shown:
            items = decode_turn(session.session_id, turn)
            if options.json:
                print_json(turn_keys(session.session_id, turn))
            else:
                _print_turn(turn, items)
    return 0


def _print_head(session: StoredSession) -> None:
    title = decode_metadata(session.metadata).get("title")
    name = f"{title} ({session.session_id})" if isinstance(title, str) else session.session_id
    origin = f", fork of {session.forked_from}" if session.forked_from else ""
    counts = f"{number(session.turns, 'turn')}, {number(session.items, 'item')}"
    print_text(escaped(f"{name}: {counts}{origin}"))


def _print_turn(turn: StoredTurn, items: Iterable[Any]) -> None:
    print_text("")
    print_text(escaped(f"{shown_time(to_datetime(turn.created_at))}  turn {turn.turn_id}"))
    for item in items:
        role, text = _role_and_text(item)
        lines = [escaped(line) for line in text.splitlines()] or [""]
        first, *rest = lines
        print_text(f"  {padding(escaped(role), _ROLE_WIDTH)}  {first}".rstrip())
        for line in rest:
            print_text(f"{' ' * (_ROLE_WIDTH + 4)}{line}".rstrip())


def _role_and_text(item: Any) -> tuple[str, str]:
    """Return the role or the type of an item, and its text; without text, its JSON."""
    fields = item if isinstance(item, dict) else {}
    role = fields.get("role") or fields.get("type") or fields.get("kind")
    text = message_text(item) or json.encode(item).decode()
    return role if isinstance(role, str) else "item", text


def search(options: argparse.Namespace) -> int:
    """Print the turns that contain all words, and return the exit status."""
    with open_existing(database_of(options)) as opened:
        hits = _find_hits(opened, " ".join(options.text), options.prefix, options.limit)
        if options.json:
            for hit in hits:
                print_json(_hit_keys(hit))
            return 0

        rows = [(shown_time(hit.created_at), hit.session_id, hit.excerpt) for hit in hits]
        if not rows:
            print_note("no turn contains all these words")
        print_table(("TIME (UTC)", "SESSION", "EXCERPT"), rows)
    return 0


def _find_hits(opened: Opened, text: str, prefix: str, limit: int) -> Iterator[SearchHit]:
    """Return an iterator over at most *limit* turns with all words of *text*, newest first."""
    store: SessionSearch = opened.store

    async def get_page(size: int, after: str | None) -> Page[SearchHit]:
        return await store.search(text, prefix=prefix, limit=size, after=after)

    return _walk(opened, get_page, limit)


def _walk(
    opened: Opened,
    get_page: Callable[[int, str | None], Awaitable[Page[Entry]]],
    limit: int | None,
) -> Iterator[Entry]:
    """Yield the entries of the pages that *get_page(size, after)* returns, at most *limit*."""
    after, left = None, limit
    while left is None or left > 0:
        found = opened.portal.call(get_page, _PAGE if left is None else min(_PAGE, left), after)
        yield from found
        after = found.next
        if after is None:
            return
        left = None if left is None else left - len(found)


def _hit_keys(hit: SearchHit) -> dict[str, Any]:
    return {
        "session_id": hit.session_id,
        "turn_id": hit.turn_id,
        "created_at": json_time(hit.created_at),
        "excerpt": hit.excerpt,
    }
