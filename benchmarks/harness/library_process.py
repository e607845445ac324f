"""Processes that run turns through a version of the library, to compare versions with each other.

1. Each process imports one version, from its folder of sources, and opens one file with the default
   settings. Several processes may have the same file.
2. A process runs one command at a time: a line of JSON on its standard input, answered by a line
   with a number. So the measurements of several versions alternate, as those of other sides do.
3. Commands that several processes are to run at once are sent to all before the first answer is
   read.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from time import perf_counter
from typing import IO, Any, cast, final

import anyio

import tower_memory
from benchmarks.harness.sessions import grow_log
from benchmarks.sides import OURS, TowerMemory
from benchmarks.transcripts import Transcript

PREVIOUS = "the other version"
"""Name of the side that `--against` adds."""

_ROOT = Path(__file__).parents[2]


@final
class LibraryProcess:
    """A process with an open file, as its parent sees it."""

    def __init__(self, commands: IO[str], answers: IO[str]) -> None:
        self._commands = commands
        self._answers = answers

    def send(self, command: str, **arguments: Any) -> None:
        """Let the process run a method of `_Commands`."""
        print(json.dumps([command, arguments]), file=self._commands, flush=True)

    def answer(self) -> float:
        """Wait for the result of the command that was sent.

        Raises:
            RuntimeError: The process ended; its error is on stderr.
        """
        line = self._answers.readline()
        if not line:
            msg = "a measured process has ended; see its error above"
            raise RuntimeError(msg)
        return float(line)

    def run(self, command: str, **arguments: Any) -> float:
        """Let the process run a command, and return the result."""
        self.send(command, **arguments)
        return self.answer()


def versions(against: Path | None) -> dict[str, Path]:
    """Return the folder of the sources of each version to measure, by the name of its side."""
    ours = {OURS: Path(tower_memory.__file__).parents[1]}
    return ours if against is None else {**ours, PREVIOUS: against}


@contextmanager
def start_processes(sources: Path, paths: Iterable[Path]) -> Generator[list[LibraryProcess]]:
    """Start a process of the version in *sources* for each of *paths*, which may be equal."""
    path = os.pathsep.join([str(sources.resolve()), str(_ROOT)])
    environment = {**os.environ, "PYTHONPATH": path}

    with ExitStack() as stack:
        processes: list[LibraryProcess] = []
        for file in paths:
            arguments = [sys.executable, "-m", __name__, str(file)]
            process = Popen(arguments, stdin=PIPE, stdout=PIPE, text=True, env=environment)  # noqa: S603
            stack.enter_context(process)  # closes its input and waits until it ends
            commands, answers = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
            processes.append(LibraryProcess(commands, answers))
        yield processes


@final
class _Commands:
    """The commands, in the process that runs them."""

    def __init__(self, side: TowerMemory) -> None:
        self._side = side
        self._transcripts: dict[str, Transcript] = {}
        self._prepared: list[Any] = []
        self._session_id = ""

    async def fill(self, session_id: str, items: int, seed: int) -> float:
        """Fill a session, and load it twice, so that it is in the cache if it has room there."""
        await grow_log(self._side)
        transcript = self._transcripts[session_id] = Transcript(seed)
        await self._side.fill(session_id, list(transcript.turns_until(items)))
        await self._side.load(session_id)
        return await self._side.load(session_id)

    async def prepare(self, session_id: str, turns: int) -> float:
        """Prepare the next turns of a session that was filled here."""
        self._session_id = session_id
        made = self._transcripts[session_id].turns(turns)
        self._prepared = [self._side.prepare(turn) for turn in made]
        return turns

    async def run(self) -> float:
        """Run the prepared turns; return the milliseconds of one."""
        start = perf_counter()
        for turn in self._prepared:
            await self._side.run_turn(self._session_id, turn)
        return 1_000 * (perf_counter() - start) / len(self._prepared)


async def _serve(path: Path) -> None:
    """Run the commands on standard input until it ends."""
    async with TowerMemory(path) as side:
        commands = _Commands(side)
        for line in sys.stdin:
            command, arguments = json.loads(line)
            print(await getattr(commands, command)(**arguments), flush=True)


if __name__ == "__main__":
    anyio.run(_serve, Path(sys.argv[1]))
