"""The progress of long work, on one line of a terminal.

The line appears after one second, and is rewritten. It goes to standard error, and only to a
terminal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import Final, TextIO

Show = Callable[[float], None]
"""Function that shows the share of the work that is done, from 0.0 to 1.0."""

DELAY: Final = 1.0
"""Seconds until the line, or a note about long work, appears."""

_INTERVAL: Final = 0.1
"""Seconds between two changes of the line."""

_BAR: Final = 20
"""Number of characters of the bar."""


def bar(share: float) -> str:
    """Return a bar of the *share* that is done.

    >>> from tower_memory._command.progress import bar
    >>> bar(0.25)
    '[#####...............]'
    """
    done = int(share * _BAR)
    return f"[{'#' * done}{'.' * (_BAR - done)}]"


class ProgressLine(logging.Handler):
    """Shows progress as one line, which is rewritten, and each other log record on its own line."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._is_open = False  # True if the last line is not ended

    def show(self, share: float, text: str) -> None:
        """Rewrite the line."""
        print("", f"{bar(share)} {text}", sep="\r", end="", file=self._stream, flush=True)
        self._is_open = True

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record to the stream."""
        if (share := getattr(record, "progress", None)) is not None:
            self.show(share, record.getMessage())
        else:
            self.end_line()
            print("tower_memory:", record.getMessage(), file=self._stream)

    def end_line(self) -> None:
        """End the line that shows the progress."""
        if self._is_open:
            print(file=self._stream)
            self._is_open = False


@contextmanager
def show_progress(stream: TextIO | None) -> Generator[None]:
    """Show the progress that the library logs on *stream*, if it is a terminal."""
    if stream is None or not stream.isatty():
        yield
        return

    logger = logging.getLogger("tower_memory")
    line, level = ProgressLine(stream), logger.level
    logger.addHandler(line)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(line)
        line.end_line()


@contextmanager
def progress(
    stream: TextIO | None, text: str, clock: Callable[[], float] = monotonic
) -> Generator[Show]:
    """Yield a function that shows the progress of the command's own work on *stream*."""
    if stream is None or not stream.isatty():
        yield lambda _share: None
        return

    line = ProgressLine(stream)
    due = clock() + DELAY

    def show(share: float) -> None:
        nonlocal due
        now = clock()
        if now >= due:
            due = now + _INTERVAL
            line.show(share, f"{text}: {int(100 * share)} %")

    try:
        yield show
    finally:
        line.end_line()
