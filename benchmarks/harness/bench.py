"""The settings and helpers that every part receives."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.harness.measuring import Key, Measure, alternate
from benchmarks.harness.progress import Progress
from benchmarks.harness.sessions import grow_log
from benchmarks.sides import Side


@dataclass(frozen=True, slots=True)
class Bench:
    """The settings of a run, and the helpers that depend on them.

    Attributes:
        folder: Folder for the databases; its disk is measured.
        quick: True for few rounds.
        peers: Installed peers, without the slow ones in a quick run.
        against: Folder of the sources of another version of the library, to compare with; or None.
        gigabytes: Size of the large file.
        progress: Display of the running measurement.
    """

    folder: Path
    quick: bool
    peers: list[type[Side]] = field(default_factory=list)
    against: Path | None = None
    gigabytes: float = 1.0
    progress: Progress = field(default_factory=Progress)

    def rounds(self, usual: int) -> int:
        """Return the number of rounds: *usual*, or a quarter and at least 3 in a quick run."""
        return max(3, usual // 4) if self.quick else usual

    async def alternate(
        self, measurement: str, measures: Mapping[Key, Measure], usual_rounds: int
    ) -> dict[Key, list[float]]:
        """Measure all sides in alternation and show the progress; see `measuring.alternate`."""
        rounds = self.rounds(usual_rounds)

        def show(number: int) -> None:
            self.progress.show(measurement, number, rounds)

        return await alternate(measures, rounds, show)

    @contextmanager
    def temporary_folder(self) -> Generator[Path]:
        """Create a folder on the measured disk, and remove it at the end."""
        with TemporaryDirectory(dir=self.folder) as folder:
            yield Path(folder)

    @asynccontextmanager
    async def open_sides(
        self, kinds: Iterable[type[Side]], *, limit: int | None = None
    ) -> AsyncGenerator[dict[str, Side]]:
        """Open one side of each kind, each with a file of its own; yield them by name.

        Their write-ahead logs have grown to their full size.
        """
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(self.temporary_folder())
            sides: dict[str, Side] = {}

            for number, kind in enumerate(kinds):
                side = kind(folder / f"{number}.db", limit=limit)
                sides[kind.name] = await stack.enter_async_context(side)
                await grow_log(side)

            yield sides
