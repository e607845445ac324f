"""``tower-memory import``: sessions of another file.

1. The whole file is read and checked first. A file that is damaged therefore changes nothing, and
   creates no file.
2. Then it is read again and written. One transaction writes all to an SQLite file; in a Postgres
   database, a transaction writes each session. If the imported file was changed in between and is
   damaged now, the transaction in progress is rolled back.
3. Memory holds one turn at a time. For a Postgres database it holds one session, because its
   transaction may be made again.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Final, TypeAlias

from tower_memory._command.errors import CommandError
from tower_memory._command.export_format import read_entries
from tower_memory._command.foreign_files import read_foreign
from tower_memory._command.output import number, print_json, print_text
from tower_memory._command.progress import Show, progress
from tower_memory._command.stores import database_of
from tower_memory._errors import SessionError
from tower_memory._stores.sql.importing import Entry

_Read: TypeAlias = Callable[[], Iterator[tuple[float, Entry]]]
"""Function that reads a file from its start; each entry comes with the share that is read."""

_SQLITE: Final = b"SQLite format 3\0"


def import_file(options: argparse.Namespace) -> int:
    """Import a file, and return the exit status."""
    name = "standard input" if options.file == "-" else options.file
    database = database_of(options)
    with ExitStack() as resources:
        with _named(name, "nothing was imported"):
            read = resources.enter_context(_open(options.file, options.db))
            with progress(sys.stderr, f"checking {name}") as show:
                for _ in _shown(read(), show):
                    pass  # reading checks the file (rule 1)

        with (
            _named(name, database.after_failed_import),
            progress(sys.stderr, f"importing {name}") as show,
        ):
            imported = database.write(_shown(read(), show))

    if options.json:
        print_json(imported._asdict())
    else:
        skipped = f"; {number(imported.skipped, 'turn')} there already" if imported.skipped else ""
        print_text(
            f"imported {number(imported.turns, 'turn')} with {number(imported.items, 'item')}"
            f" into {database.name}, {number(imported.sessions, 'new session')}{skipped}"
        )
    return 0


def _shown(entries: Iterable[tuple[float, Entry]], show: Show) -> Iterator[Entry]:
    """Yield the entries, and show the share that is read."""
    for share, entry in entries:
        show(share)
        yield entry


@contextmanager
def _named(name: str, outcome: str) -> Generator[None]:
    """Let errors name the imported file and the *outcome*."""
    try:
        yield
    except (CommandError, SessionError) as error:
        msg = f"{name}: {error}; {outcome}"
        raise CommandError(msg) from error


@contextmanager
def _open(path: str, db: str) -> Generator[_Read]:
    """Open the file *path*, and yield the function that reads it."""
    if path == "-":
        with TemporaryFile() as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            yield partial(_read_lines, copy)
        return

    # SQLite would lose its locks on a file that is opened and closed here.
    file = Path(path)
    if Path(db).exists() and file.exists() and file.samefile(db):
        msg = "it is the file of --db itself"
        raise CommandError(msg)
    try:
        opened = file.open("rb")
    except OSError as error:
        msg = f"it cannot be opened: {error.strerror}"
        raise CommandError(msg) from error

    with opened:
        is_database = opened.read(len(_SQLITE)) == _SQLITE
        if not is_database:
            yield partial(_read_lines, opened)
            return
    yield partial(read_foreign, path, datetime.now(UTC))


def _read_lines(file: BinaryIO) -> Iterator[tuple[float, Entry]]:
    """Yield the entries of an export."""
    size = max(1, file.seek(0, io.SEEK_END))
    file.seek(0)
    done = 0

    def lines() -> Iterator[bytes]:
        nonlocal done
        for line in file:
            done += len(line)
            yield line

    for entry in read_entries(lines()):
        yield done / size, entry
