"""``tower-memory scrub``, ``backup`` and ``check``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

from tower_memory._command.output import escaped, number, print_json, print_note, print_text
from tower_memory._command.progress import DELAY, progress
from tower_memory._command.stores import enter, file_of
from tower_memory._stores.sqlite.checking import Check, Damage
from tower_memory._stores.sqlite.whole_file import read_whole


def scrub(options: argparse.Namespace) -> int:
    """Remove the last bytes of what was erased, and return the exit status."""
    advice = "the operator of the server removes the last bytes: see help(tower_memory.postgres)"
    file = file_of(options, advice)
    with enter(file.store()) as (portal, store), _note(f"rewriting {options.db} ..."):
        portal.call(store.scrub)
    print_text(f"scrubbed {options.db}")
    return 0


def backup(options: argparse.Namespace) -> int:
    """Copy the file, and return the exit status."""
    file = file_of(options, "pg_dump copies a database, and `tower-memory export` its sessions")
    with enter(file.store()) as (portal, store), _note(f"copying {options.db} ..."):
        portal.call(store.backup, options.file)
    size = Path(options.file).stat().st_size
    print_text(f"copied {options.db} to {options.file}, {number(size, 'byte')}")
    return 0


@contextmanager
def _note(text: str) -> Generator[None]:
    """Print *text* if the block, whose progress is not known, takes longer than a second."""
    timer = Timer(DELAY, print_note, (text,))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def check(options: argparse.Namespace) -> int:
    """Check the file, print each damage, and return the exit status: 1 if there is one."""
    file_of(options, "pg_amcheck finds damage, and `tower-memory export` decodes each turn")
    damages = 0
    with (
        read_whole(options.db) as connection,
        progress(sys.stderr, f"checking {options.db}") as show,
    ):
        checked = Check(connection, show)
        for damage in checked.damages():
            damages += 1
            _print_damage(damage, json=options.json)

    if options.json:
        print_json(
            {
                "kind": "summary",
                "sessions": checked.sessions,
                "turns": checked.turns,
                "damages": damages,
            }
        )
    else:
        counts = f"{number(checked.sessions, 'session')}, {number(checked.turns, 'turn')}"
        found = f"{number(damages, 'damage')} found" if damages else "no damage"
        print_text(f"{options.db}: {counts}, {found}")
    return 1 if damages else 0


def _print_damage(damage: Damage, *, json: bool) -> None:
    if json:
        print_json({"kind": "damage", **damage._asdict()})
        return
    places = [
        *([f"session {damage.session_id}"] if damage.session_id is not None else []),
        *([f"row {damage.row}"] if damage.row is not None else []),
    ]
    print_text(escaped(": ".join([*places, damage.reason])))
