"""``tower-memory export``: sessions as JSON lines (`export_format`).

1. The sessions are read from one snapshot (`Database.read`), so each session is consistent.
2. Memory holds one turn at a time, or at most 100 turns of a Postgres database.
3. A turn that cannot be decoded ends the export with an error. A file at the path of ``--output``
   is whole or absent: it is written under a temporary name beside its path, and then renamed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO

from tower_memory._command.errors import CommandError, no_session
from tower_memory._command.export_format import end_line, header_line, session_line, turn_line
from tower_memory._command.output import number, print_note
from tower_memory._command.progress import Show, progress
from tower_memory._command.stores import database_of
from tower_memory._errors import CorruptSessionError
from tower_memory._stores.sql.stored import Snapshot, StoredSession, StoredTurn, decode_stored


def export(options: argparse.Namespace) -> int:
    """Export the selected sessions, and return the exit status."""
    database = database_of(options)
    prefix = options.prefix or ""
    with (
        database.read() as snapshot,
        _output(options.output) as output,
        progress(sys.stderr, f"exporting {database.name}") as show,
    ):
        selected: Iterable[StoredSession] = (
            find_sessions(snapshot, options.ids) if options.ids else snapshot.sessions(prefix)
        )
        total = snapshot.count_turns(prefix)
        exported = write_export(snapshot, selected, output, lambda n: show(n / max(1, total)))
    print_note(f"exported {number(exported, 'session')}")
    return 0


def find_sessions(snapshot: Snapshot, ids: Iterable[str]) -> list[StoredSession]:
    """Return the sessions with these *ids*.

    Raises:
        CommandError: One of *ids* is no session.
    """
    found: dict[str, StoredSession] = {}
    for session_id in ids:
        session = snapshot.find_session(session_id)
        if session is None:
            raise no_session(session_id)
        found[session_id] = session
    return list(found.values())


def write_export(
    snapshot: Snapshot,
    selected: Iterable[StoredSession],
    output: BinaryIO,
    show: Show,
) -> int:
    """Write the *selected* sessions to *output*, and return their number.

    *show* is called with the number of turns that are written so far.

    Raises:
        CorruptSessionError: A turn cannot be decoded.
    """
    count = written = 0
    output.write(header_line())
    for session in selected:
        count += 1
        output.write(session_line(session))
        for turn in snapshot.turns(session):
            decode_turn(session.session_id, turn)  # an export has no turn that cannot be imported
            output.write(turn_line(session.session_id, turn))
            written += 1
            show(written)
    output.write(end_line(count))
    output.flush()
    return count


def decode_turn(session_id: str, turn: StoredTurn) -> list[Any]:
    """Return the items of a stored turn.

    Raises:
        CorruptSessionError: The items or the metadata cannot be decoded.
    """
    try:
        return decode_stored(turn.metadata, turn.items)
    except ValueError as error:
        raise CorruptSessionError(session_id, row=turn.row, reason=str(error)) from error


@contextmanager
def _output(path: str | None) -> Generator[BinaryIO]:
    """Yield standard output, or a new file that is renamed to *path* at the end (rule 3)."""
    if path is None:
        yield sys.stdout.buffer
        return

    target = Path(path)
    if os.path.lexists(target):
        msg = f"{path} exists; choose the path of a new file"
        raise CommandError(msg)
    temporary = target.with_name(f".{token_hex(8)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            yield file
            file.flush()
            os.fsync(descriptor)
        temporary.rename(target)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise CommandError(msg) from error
    finally:
        temporary.unlink(missing_ok=True)
