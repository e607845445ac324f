"""The scenarios with numbers, and the one with trio."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import active_count
from typing import Final

import trio

from benchmarks.comparison.outcomes import Result, tally, turn_state
from benchmarks.comparison.probe import Probe
from benchmarks.comparison.trials import answer, opened

_SIZES: Final = (100, 1_000)
_MEASURED: Final = 20
_TEXT: Final = "The quick brown fox jumps over the lazy dog. " * 11
_SESSIONS: Final = 50


def on_trio(probe_class: type[Probe]) -> Result:
    """Run one turn in ``trio.run``."""

    async def run() -> str:
        with TemporaryDirectory(ignore_cleanup_errors=True) as name:
            probe = probe_class(Path(name))
            try:
                with trio.fail_after(20):
                    await probe.open()
                    await probe.turn("session-1", "first", answer)
                    state = turn_state(await probe.stored("session-1"), "first")
                    await probe.close()
            except BaseException as error:  # noqa: BLE001 - also a trio.TrioInternalError
                return f"{type(error).__name__}: {str(error)[:80]}"
            return state

    try:
        outcome = trio.run(run)
    except BaseException as error:  # noqa: BLE001 - also a trio.TrioInternalError
        outcome = f"{type(error).__name__}: {str(error)[:80]}"
    counts = tally([outcome])
    if outcome == "whole":
        return Result("yes", "yes", counts)
    return Result("no", f"no ({outcome.split(':')[0]})", counts)


def many_sessions(probe_class: type[Probe]) -> Result:
    """Run a turn in each of 50 sessions at once, and count threads and files before the close."""

    async def run() -> dict[str, int]:
        with TemporaryDirectory(ignore_cleanup_errors=True) as name:
            async with opened(probe_class, Path(name)) as probe:
                await probe.turn("session-0", "first", answer)
                turns = [
                    probe.turn(f"session-{number}", "again", answer) for number in range(_SESSIONS)
                ]
                ends = await asyncio.gather(*turns, return_exceptions=True)
                return {
                    "threads": active_count() - 1,
                    "files": _files_in(Path(name)),
                    "raised": sum(isinstance(end, BaseException) for end in ends),
                }

    counts = asyncio.run(run())
    cell = f"{counts['threads']} threads, {counts['files']} files"
    if counts["raised"]:
        cell += f"; {counts['raised']} turns raise"
    return Result("figure", cell, dict(counts))


def turn_and_file(probe_class: type[Probe]) -> Result:
    """Measure a turn at 100 and 1,000 items of 500 bytes, and the size of the file after that."""

    async def run() -> dict[str, float]:
        found: dict[str, float] = {}
        said = 0

        async def model(_: list[str]) -> str:
            return _TEXT

        with TemporaryDirectory(ignore_cleanup_errors=True) as name:
            async with opened(probe_class, Path(name)) as probe:
                items = 0
                for size in _SIZES:
                    while items < size:
                        await probe.turn("session-1", f"{items} {_TEXT}", model)
                        items += 2
                        said += 2 * len(_TEXT) + len(str(items)) + 1

                    times = []
                    for _ in range(_MEASURED):
                        began = time.perf_counter()
                        await probe.turn("session-1", f"{items} {_TEXT}", model)
                        times.append(time.perf_counter() - began)
                        items += 2
                        said += 2 * len(_TEXT) + len(str(items)) + 1
                    found[f"ms at {size}"] = round(1000 * median(times), 2)

            if probe.stores != "memory":
                found["bytes per byte"] = round(_size_of(Path(name)) / said, 2)
        return found

    found = asyncio.run(run())
    return Result("figure", ", ".join(f"{name}: {value}" for name, value in found.items()), found)


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _files_in(folder: Path) -> int:
    """Count the open files of this process in *folder*."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            count += entry.readlink().is_relative_to(folder)
        except OSError:
            continue
    return count
