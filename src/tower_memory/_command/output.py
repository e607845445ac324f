"""Texts, tables and JSON lines on standard output, and errors on standard error.

1. Stored text never controls the terminal: characters that are not printable are escaped.
2. A table on a terminal has a title line, and its rows are cut to the width of the terminal. In a
   pipe, rows are whole, and there is no title line.
3. An error is one line.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, cast
from unicodedata import category, east_asian_width

from msgspec import json

from tower_memory._command.errors import CommandError, without_password

JOINERS: Final = "\u200c\u200d"
"""Characters that join letters or emoji; they are harmless, and texts look wrong without them."""

_GAP: Final = "  "


def prepare_output() -> None:
    """Let standard output escape the characters that it cannot encode.

    Raises:
        CommandError: Standard output is closed.
    """
    if sys.stdout is None:
        msg = "stdout is closed; the command needs it"
        raise CommandError(msg)
    cast("io.TextIOWrapper", sys.stdout).reconfigure(errors="backslashreplace")


def print_error(reason: str) -> None:
    """Print *reason* on one line of standard error (rule 3)."""
    line = without_password(" ".join(reason.split()))
    print("tower-memory:", escaped(line), file=sys.stderr)


def print_note(text: str) -> None:
    """Print *text* on standard error if it is a terminal; a program needs no such notes."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(text, file=sys.stderr)


def print_text(text: str) -> None:
    """Print *text*, in which stored text is escaped already."""
    print(text)


def print_json(value: dict[str, Any]) -> None:
    """Print *value* as one line of JSON."""
    print(json.encode(value).decode())


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print *rows*, with each column as wide as its longest text (rule 2).

    The last column holds the longest texts, so it is the one that is cut.
    """
    cells = [[escaped(cell) for cell in row] for row in rows]
    if not cells:
        return

    is_terminal = sys.stdout.isatty()
    if is_terminal:
        cells.insert(0, list(titles))
    columns = zip(*cells, strict=True)
    widths = [max(map(width, column)) for column in columns]
    columns_shown = shutil.get_terminal_size().columns if is_terminal else None

    for row in cells:
        padded = [padding(cell, size) for cell, size in zip(row, widths, strict=True)]
        line = _GAP.join(padded).rstrip()
        print(line if columns_shown is None else cut(line, columns_shown))


def escaped(text: str) -> str:
    r"""Return *text* on one line, with an escape for each character that is not printable (rule 1).

    >>> from tower_memory._command.output import escaped
    >>> escaped("a\nb\x1b[31m")
    'a b\\x1b[31m'
    """
    return "".join(
        c if c.isprintable() or c in JOINERS else " " if c.isspace() else _escape(c) for c in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def width(text: str) -> int:
    """Return the number of columns that *text* takes on a terminal.

    >>> from tower_memory._command.output import width
    >>> width("Rome"), width("東京"), width("e\u0301")
    (4, 4, 1)
    """
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """Return *text*, cut to *columns* columns; a cut text ends with an ellipsis.

    >>> from tower_memory._command.output import cut
    >>> cut("東京タワー", 8), cut("Rome", 8)
    ('東京タ…', 'Rome')
    """
    if width(text) <= columns:
        return text

    kept, left = 0, columns - 1
    while (left := left - _width(text[kept])) >= 0:
        kept += 1
    return f"{text[:kept]}…"


def padding(text: str, size: int) -> str:
    """Return *text* with the spaces that make it *size* columns wide."""
    return text + " " * max(0, size - width(text))


def shown_time(time: datetime) -> str:
    """Return *time*, which is UTC, in seconds, for a person to read.

    >>> from datetime import UTC, datetime
    >>> from tower_memory._command.output import shown_time
    >>> shown_time(datetime(2025, 1, 2, 3, 4, 5, 6, tzinfo=UTC))
    '2025-01-02 03:04:05'
    """
    return f"{time:%Y-%m-%d %H:%M:%S}"


def json_time(time: datetime) -> str:
    """Return *time*, which is UTC, as ISO 8601 with microseconds.

    >>> from datetime import UTC, datetime
    >>> from tower_memory._command.output import json_time
    >>> json_time(datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2025-01-02T03:04:05.000000Z'
    """
    return time.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def number(count: int, noun: str) -> str:
    """Return *count* with its noun.

    >>> from tower_memory._command.output import number
    >>> number(1, "turn"), number(2000, "turn")
    ('1 turn', '2,000 turns')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
