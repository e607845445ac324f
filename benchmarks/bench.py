"""What every part is given: where to put files, how long to take, whom to compare with."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.sides import Side


class Progress:
    """What is being done: one line that is written anew on a terminal, else a line for each."""

    def __init__(self) -> None:
        self._start = perf_counter()
        self._part = ""
        self._shown = ""

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return perf_counter() - self._start

    def begin(self, part: str) -> None:
        """Go on to the next *part*."""
        self._part = part

    def tell(self, what: str, number: int, rounds: int) -> None:
        """Say that round *number* of so many is being done, round 0 to warm up."""
        line = f"{self._part}: {what}"
        if sys.stderr.isatty():
            where = f"round {number} of {rounds}" if number else "warming up"
            sys.stderr.write(f"\r\x1b[K{self.elapsed:4.0f} s  {line}, {where}")
        elif line != self._shown:
            print(f"{self.elapsed:4.0f} s  {line}", file=sys.stderr)
        self._shown = line
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the terminal's line empty, for what is printed next."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class Bench:
    """What a part is given.

    Attributes:
        folder: Where files are made, on the disk that is measured.
        quick: Whether to take few rounds.
        peers: Those that are installed.
    """

    folder: Path
    quick: bool
    peers: list[type[Side]] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)

    def rounds(self, usual: int) -> int:
        """How many rounds to take where *usual* are taken."""
        return max(3, usual // 4) if self.quick else usual

    def telling(self, what: str, rounds: int) -> Callable[[int], None]:
        """What tells of each round of *what*."""
        return lambda number: self.progress.tell(what, number, rounds)

    @asynccontextmanager
    async def opened(
        self, kinds: Iterable[type[Side]], *, limit: int | None = None
    ) -> AsyncGenerator[dict[str, Side]]:
        """A side of each kind, by name, each with a file of its own."""
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(dir=self.folder)))
            sides: dict[str, Side] = {}
            for number, kind in enumerate(kinds):
                side = kind(folder / f"{number}.db", limit=limit)
                sides[kind.name] = await stack.enter_async_context(side)
            yield sides


def session_id(number: int) -> str:
    """A session's id, the same for the same *number*, as long as a uuid."""
    return f"{number:032x}"
