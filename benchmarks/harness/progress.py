"""Show on stderr which measurement is running."""

from __future__ import annotations

import sys
from time import perf_counter


class Progress:
    """One line that is rewritten on a terminal; elsewhere one line per measurement."""

    def __init__(self) -> None:
        self._start = perf_counter()
        self._part = ""
        self._last_line = ""

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return perf_counter() - self._start

    def begin(self, part: str) -> None:
        """Start the next *part*."""
        self._part = part

    def show(self, measurement: str, number: int, rounds: int) -> None:
        """Show that round *number* of *rounds* is running; round 0 warms up."""
        line = f"{self._part}: {measurement}"

        if sys.stderr.isatty():
            position = f"round {number} of {rounds}" if number else "warming up"
            sys.stderr.write(f"\r\x1b[K{self.elapsed:4.0f} s  {line}, {position}")
        elif line != self._last_line:
            print(f"{self.elapsed:4.0f} s  {line}", file=sys.stderr)

        self._last_line = line
        sys.stderr.flush()

    def end(self) -> None:
        """Clear the terminal's line for the output that follows."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
