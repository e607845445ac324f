"""``tower-memory title``, ``fork`` and ``erase``.

1. `erase` counts what it would erase, and asks on a terminal. Elsewhere it needs ``--yes``.
2. The time of ``--inactive-days`` is read once, before the question. A session that is changed
   after the question stays.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import partial

from tower_memory import Erasure, SessionInfo
from tower_memory._command.errors import CommandError, no_session
from tower_memory._command.listing import find_infos, info_keys
from tower_memory._command.output import escaped, number, print_json, print_note, print_text
from tower_memory._command.stores import Opened, database_of, open_existing


def set_title(options: argparse.Namespace) -> int:
    """Set or remove the title of a session, and return the exit status."""
    title = options.text or None
    with open_existing(database_of(options)) as (portal, store, _):
        info = portal.call(store.annotate, options.id, {"title": title})
    if info is None:
        raise no_session(options.id)
    return 0


def fork(options: argparse.Namespace) -> int:
    """Copy a session to a new one, and return the exit status."""
    with open_existing(database_of(options)) as (portal, store, _):
        info = portal.call(partial(store.fork, options.id, options.new, before=options.before))
    if options.json:
        print_json(info_keys(info))
    else:
        counts = f"{number(info.turns, 'turn')}, {number(info.items, 'item')}"
        print_text(escaped(f"copied {options.id} to {info.session_id}: {counts}"))
    return 0


def erase(options: argparse.Namespace) -> int:
    """Erase the selected sessions after a confirmation, and return the exit status."""
    before = None
    if options.inactive_days is not None:
        before = datetime.now(UTC) - timedelta(days=options.inactive_days)

    database = database_of(options)
    with open_existing(database) as opened:
        if not options.yes:
            _check_terminal()
        selected = list(_selected(opened, options.ids, options.prefix, before))
        if selected and not options.yes and not _confirms(selected, database.name):
            print_note("nothing was erased")
            return 1
        erased = _erase(opened, options, before) if selected else Erasure(0, 0, 0)

    counts = (erased.sessions, erased.turns, erased.items)
    if options.json:
        print_json(dict(zip(("sessions", "turns", "items"), counts, strict=True)))
    else:
        words = zip(counts, ("session", "turn", "item"), strict=True)
        print_text(f"erased {', '.join(number(count, noun) for count, noun in words)}")
        print_note(database.after_erasure)
    return 0


def _selected(
    opened: Opened, ids: Iterable[str], prefix: str | None, before: datetime | None
) -> Iterable[SessionInfo]:
    """Yield the sessions that would be erased.

    Raises:
        CommandError: One of *ids* is no session.
    """
    portal, store, _ = opened
    for session_id in dict.fromkeys(ids):
        info = portal.call(store.describe, session_id)
        if info is None:
            raise no_session(session_id)
        if before is None or info.updated_at < before:
            yield info

    if not ids:
        for info in find_infos(opened, prefix or "", None):
            if before is None or info.updated_at < before:
                yield info


def _erase(opened: Opened, options: argparse.Namespace, before: datetime | None) -> Erasure:
    portal, store, _ = opened
    if not options.ids:
        erase = partial(store.erase, prefix=options.prefix or "", inactive_since=before)
        return portal.call(erase)

    total = Erasure(0, 0, 0)
    for session_id in dict.fromkeys(options.ids):
        one = portal.call(partial(store.erase, session_id=session_id, inactive_since=before))
        total = total.plus(one)
    return total


def _check_terminal() -> None:
    if sys.stdin is None or not sys.stdin.isatty():
        msg = "erase needs --yes if it cannot ask on a terminal; nothing was erased"
        raise CommandError(msg)


def _confirms(selected: list[SessionInfo], name: str) -> bool:
    """Ask on the terminal, and return True if the answer is yes."""
    turns = number(sum(info.turns for info in selected), "turn")
    only = f"session {selected[0].session_id}" if len(selected) == 1 else ""
    erased = only or number(len(selected), "session")
    question = escaped(f"Erase {erased} with {turns} from {name} for good? [y/N] ")
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().casefold() in ("y", "yes")
