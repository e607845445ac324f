"""The scenarios with several processes, which are forks of a process that has run nothing yet."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.comparison.outcomes import Result, reply_to
from benchmarks.comparison.probe import Message, Probe
from benchmarks.comparison.scenarios import NO_FILE
from benchmarks.comparison.trials import SESSION, answer, opened

_KILLS: Final = 50
_MODEL_SECONDS: Final = 0.005
_TURNS: Final = 25
_ROUNDS: Final = 3


def kill(probe_class: type[Probe]) -> Result:
    """Kill a process that runs turn after turn, at a random moment; then read its session."""
    if probe_class.stores == "memory":
        return Result("none", NO_FILE)

    chance = random.Random(18)  # noqa: S311 - moments, not secrets
    states: dict[str, int] = {"whole": 0, "torn": 0, "unreadable": 0}
    lost = 0
    for _ in range(_KILLS):
        with TemporaryDirectory() as name:
            folder = Path(name)
            child = _fork(lambda folder=folder: asyncio.run(_run_turns(probe_class, folder)))
            _wait_for(folder / "began")
            time.sleep(chance.uniform(0.03, 0.25))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

            returned = (folder / "began").read_text().count("\n")
            messages = _in_fork(lambda folder=folder: asyncio.run(_load(probe_class, folder)))
            if messages is None:
                states["unreadable"] += 1
                continue
            states["whole" if _all_whole(messages) else "torn"] += 1
            lost += max(0, returned - len(messages) // 2)

    observed = {**states, "returned turns lost": lost}
    if states["whole"] == _KILLS and not lost:
        return Result("yes", f"whole in all {_KILLS} kills", observed)
    cells = [f"{state} in {states[state]}" for state in ("torn", "unreadable") if states[state]]
    cells += [f"{lost} returned turns lost"] if lost else []
    return Result("no", f"{', '.join(cells)} of {_KILLS} kills", observed)


async def _run_turns(probe_class: type[Probe], folder: Path) -> None:
    async def model(texts: list[str]) -> str:
        await asyncio.sleep(_MODEL_SECONDS)
        return reply_to(texts[-1])

    async with opened(probe_class, folder) as probe:
        number = 0
        with (folder / "began").open("w") as log:
            while True:
                await probe.turn(SESSION, f"question {number}", model)
                log.write("\n")
                log.flush()
                number += 1


def two_processes(probe_class: type[Probe]) -> Result:
    """Let two processes run turns in one session; count the turns that returned and are gone."""
    if probe_class.stores == "memory":
        return Result("none", NO_FILE)

    returned = raised = lost = 0
    errors: set[str] = set()
    for _ in range(_ROUNDS):
        with TemporaryDirectory() as name:
            folder = Path(name)
            _in_fork(lambda folder=folder: asyncio.run(_begin(probe_class, folder)))
            children = [
                _fork(
                    lambda folder=folder, writer=writer: asyncio.run(
                        _write(probe_class, folder, writer)
                    )
                )
                for writer in ("a", "b")
            ]
            for child in children:
                os.waitpid(child, 0)

            messages = _in_fork(lambda folder=folder: asyncio.run(_load(probe_class, folder))) or []
            for writer in ("a", "b"):
                ends = json.loads((folder / f"{writer}.json").read_text())
                returned += len(ends["returned"])
                raised += len(ends["raised"])
                errors |= set(ends["raised"])
                lost += sum(not _holds(messages, text) for text in ends["returned"])

    observed = {
        "turns": 2 * _TURNS * _ROUNDS,
        "returned": returned,
        "raised": raised,
        "errors": sorted(errors),
        "returned and lost": lost,
    }
    if not lost and not raised:
        return Result("yes", f"all {returned} kept", observed)
    cells = [f"{lost} of {returned} returned turns lost"] if lost else ["every returned turn kept"]
    cells += [f"{raised} of {2 * _TURNS * _ROUNDS} raise"] if raised else []
    return Result("no" if lost else "partly", ", ".join(cells), observed)


async def _begin(probe_class: type[Probe], folder: Path) -> None:
    async with opened(probe_class, folder) as probe:
        await probe.turn(SESSION, "first", answer)


async def _write(probe_class: type[Probe], folder: Path, writer: str) -> None:
    (folder / f"{writer}.ready").touch()
    while not all((folder / f"{other}.ready").exists() for other in ("a", "b")):
        time.sleep(0.001)  # noqa: ASYNC251 - nothing else runs yet

    async def model(texts: list[str]) -> str:
        await asyncio.sleep(_MODEL_SECONDS)
        return reply_to(texts[-1])

    ends: dict[str, list[str]] = {"returned": [], "raised": []}
    async with opened(probe_class, folder) as probe:
        for number in range(_TURNS):
            text = f"{writer}{number}"
            try:
                await probe.turn(SESSION, text, model)
                ends["returned"].append(text)
            except Exception as error:  # noqa: BLE001 - as each library reports it
                ends["raised"].append(type(error).__name__)
    (folder / f"{writer}.json").write_text(json.dumps(ends))


async def _load(probe_class: type[Probe], folder: Path) -> list[Message] | None:
    try:
        async with opened(probe_class, folder) as probe:
            return await probe.stored(SESSION)
    except Exception:  # noqa: BLE001 - as each library reports it
        return None


def _all_whole(messages: list[Message]) -> bool:
    pairs = zip(messages[::2], messages[1::2], strict=False)
    return len(messages) % 2 == 0 and all(
        question[0] == "user" and list(reply) == ["assistant", reply_to(question[1])]
        for question, reply in pairs
    )


def _holds(messages: list[Message], text: str) -> bool:
    found = [tuple(message) for message in messages]
    return ("user", text) in found and ("assistant", reply_to(text)) in found


def _wait_for(path: Path) -> None:
    """Wait until the first turn has returned."""
    end = time.monotonic() + 60
    while not (path.exists() and path.stat().st_size):
        if time.monotonic() > end:
            message = f"No turn returned within 60 seconds: {path.name}"
            raise TimeoutError(message)
        time.sleep(0.001)


def _fork(work: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work()
    finally:
        os._exit(0)


def _in_fork(work: Callable[[], Any]) -> Any:
    """Run *work* in a fork and return its result, which crosses as JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, b"")
            with os.fdopen(writing, "w") as pipe:
                json.dump(work(), pipe)
        finally:
            os._exit(0)

    os.close(writing)
    with os.fdopen(reading) as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    return json.loads(content) if content else None
