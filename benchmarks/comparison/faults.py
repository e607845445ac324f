"""The scenarios with faults. Each fault is forced in the same way for all libraries.

1. A trial has a folder of its own and a session that already holds one turn.
2. What is stored is read by a second probe with a connection of its own. A store in memory is read
   through the probe itself.
3. If the model answers at once, writes from before the model call may still be under way. The
   model of a timed trial therefore takes 20 ms. After a cancellation, a write that a thread has
   begun may end; the session is read 0.1 s later.
4. A timed cancellation comes from a thread that sleeps: an event loop's own timers are too coarse.
"""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, Final, cast

from benchmarks.comparison.outcomes import (
    Result,
    carries,
    reply_to,
    shown,
    tally,
    turn_state,
    users,
)
from benchmarks.comparison.probe import Message, Model, Probe

_SESSION: Final = "session-1"
_OVERLAP_WAIT: Final = 0.5
"""Seconds that the first model call waits for an overlapping turn to end."""

_CANCEL_POINTS: Final = 100
_MODEL_SECONDS: Final = 0.02
"""Seconds of a model call, in which writes end that began before it."""

_SETTLE_SECONDS: Final = 0.1
"""Seconds in which a write may end that a thread had begun before the cancellation."""

_LOCK_WAIT: Final = 2.0
"""Seconds after which another connection counts as locked out."""


async def answer(texts: list[str]) -> str:
    """Reply to the last of *texts*."""
    return reply_to(texts[-1])


@asynccontextmanager
async def opened(probe: type[Probe], folder: Path | None = None) -> AsyncGenerator[Probe]:
    """Open a probe in *folder*, or in a new one that holds a session with one turn."""
    if folder is not None:
        one = probe(folder)
        await one.open()
        try:
            yield one
        finally:
            await one.close()
        return

    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        async with opened(probe, Path(name)) as one:
            await one.turn(_SESSION, "first", answer)
            yield one


async def stored(one: Probe) -> list[Message]:
    """Load the session as another process sees it (rule 2)."""
    if one.stores == "memory":
        return await one.stored(_SESSION)
    async with opened(type(one), one.folder) as other:
        return await other.stored(_SESSION)


def retry(probe: type[Probe]) -> Result:
    """Let the model fail once, and make the request again."""

    async def trial() -> str:
        async with opened(probe) as one:
            seen: list[list[str]] = []

            async def failing(texts: list[str]) -> str:
                seen.append(texts)
                if len(seen) == 1:
                    raise ConnectionError
                return reply_to(texts[-1])

            try:
                await one.turn(_SESSION, "again", failing)
            except Exception:  # noqa: BLE001 - as each library reports it
                await one.turn(_SESSION, "again", failing)
            return f"stored {users(await stored(one), 'again')}, sent {seen[-1].count('again')}"

    counts = _trials(trial, 5)
    once = set(counts) == {"stored 1, sent 1"}
    return Result("yes" if once else "no", "once" if once else "stored and sent twice", counts)


def overlap(probe: type[Probe]) -> Result:
    """Start a second turn while the model answers the first one."""

    async def trial() -> str:
        async with opened(probe) as one:
            slow_began = asyncio.Event()
            fast_ended = asyncio.Event()

            async def slow(texts: list[str]) -> str:
                slow_began.set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(fast_ended.wait(), _OVERLAP_WAIT)
                return reply_to(texts[-1])

            async def run_fast() -> str:
                await slow_began.wait()
                try:
                    return await one.turn(_SESSION, "fast", answer)
                finally:
                    fast_ended.set()

            ends = await asyncio.gather(
                one.turn(_SESSION, "slow", slow), run_fast(), return_exceptions=True
            )
            messages = await stored(one)
            states = [
                f"{text} {_end(end, turn_state(messages, text))}"
                for text, end in zip(("slow", "fast"), ends, strict=True)
            ]
            order = "" if _in_turns(messages) else ", interleaved"
            return ", ".join(states) + order

    def _end(end: object, state: str) -> str:
        if isinstance(end, BaseException):
            return f"raised {type(end).__name__} ({state})"
        return "kept" if state == "whole" else f"returned, but {state} in the store"

    counts = _trials(trial, 10)
    if set(counts) == {"slow kept, fast kept"}:
        return Result("yes", "all kept, in turns", counts)
    if set(counts) == {"slow kept, fast kept, interleaved"}:
        return Result("yes", "all kept, interleaved", counts)
    if any("returned, but" in outcome for outcome in counts):
        return Result("no", "messages of a returned turn are lost", counts)
    stays = ", its question stays" if any("(part)" in outcome for outcome in counts) else ""
    return Result("partly", f"one turn raises, its paid reply is lost{stays}", counts)


def cancel_model(probe: type[Probe]) -> Result:
    """Cancel the call while the model works on it; then run another turn."""

    async def trial() -> str:
        async with opened(probe) as one:
            began = asyncio.Event()

            async def endless(_: list[str]) -> str:
                began.set()
                await asyncio.sleep(60)
                raise AssertionError

            task = asyncio.create_task(one.turn(_SESSION, "stopped", endless))
            await began.wait()
            task.cancel()
            await asyncio.wait([task])
            before = await stored(one)
            return f"{turn_state(before, 'stopped')}, {await _usable(one)}"

    counts = _trials(trial, 10)
    if set(counts) == {"absent, usable"}:
        return Result("yes", "unchanged", counts)
    if set(counts) == {"part, usable"}:
        return Result("no", "the user's message stays, without a reply", counts)
    return Result("no", shown(counts), counts)


def cancel_save(probe: type[Probe]) -> Result:
    """Cancel the call at many moments after the model has answered (rules 3 and 4)."""

    async def save_time() -> float:
        async with opened(probe) as one:
            times = []
            for _ in range(9):
                answered: list[float] = []

                async def timed(texts: list[str], answered: list[float] = answered) -> str:
                    await asyncio.sleep(_MODEL_SECONDS)
                    answered.append(time.perf_counter())
                    return reply_to(texts[-1])

                await one.turn(_SESSION, "timed", timed)
                times.append(time.perf_counter() - answered[0])
            return median(times)

    async def trial(delay: float) -> str:
        async with opened(probe) as one:
            loop = asyncio.get_running_loop()

            def cancel() -> None:
                _spin(delay)
                loop.call_soon_threadsafe(task.cancel)

            thread = Thread(target=cancel)

            async def model(texts: list[str]) -> str:
                await asyncio.sleep(_MODEL_SECONDS)
                thread.start()
                return reply_to(texts[-1])

            task = asyncio.create_task(one.turn(_SESSION, "stopped", model))
            _, pending = await asyncio.wait([task], timeout=20)
            if pending:
                return "hangs"
            await asyncio.to_thread(thread.join)
            await asyncio.sleep(_SETTLE_SECONDS)
            at_once = turn_state(await stored(one), "stopped")
            usable = await _usable(one)
            later = turn_state(await stored(one), "stopped")
            change = "" if at_once == later else f", {later} after the next turn"
            return f"{at_once}{change}, {usable}"

    duration = asyncio.run(save_time())
    counts = tally(
        asyncio.run(trial(1.3 * duration * point / _CANCEL_POINTS))
        for point in range(_CANCEL_POINTS)
    )
    observed: dict[str, Any] = {"outcomes": counts, "save_ms": round(duration * 1000, 2)}
    if set(counts) <= {"absent, usable", "whole, usable"}:
        return Result("yes", "whole or absent, usable", observed)

    part = sum(count for outcome, count in counts.items() if outcome.startswith("part"))
    locked = sum(count for outcome, count in counts.items() if "usable" not in outcome)
    changed = sum(count for outcome, count in counts.items() if "after the next" in outcome)
    found = {"in part": part, "unusable": locked, "changed by a later turn": changed}
    cells = [f"{name} {count}" for name, count in found.items() if count]
    return Result("no", f"{', '.join(cells)} of {_CANCEL_POINTS}", observed)


def full_disk(probe: type[Probe]) -> Result:
    """Let every write to a file fail from the moment that the model has answered."""

    async def trial() -> str:
        async with opened(probe) as one:

            async def model(texts: list[str]) -> str:
                await asyncio.sleep(_MODEL_SECONDS)
                if one.stores == "memory":
                    one.fail_saves()
                else:
                    _limit_files(1)
                return reply_to(texts[-1])

            try:
                await one.turn(_SESSION, "unsaved", model)
            except Exception as error:  # noqa: BLE001 - as each library reports it
                has_reply = one.has_reply_before_save or carries(error, reply_to("unsaved"))
                told = "raises, with the reply" if has_reply else "raises, the reply is lost"
            else:
                told = "returns as if saved"
            _limit_files(None)
            return f"{told}; {turn_state(await stored(one), 'unsaved')}, {await _usable(one)}"

    counts = _trials(trial, 5)
    outcome = next(iter(counts))
    told, _, rest = outcome.partition("; ")
    remains = {
        "absent, usable": "",
        "part, usable": "; the user's message stays",
        "whole, usable": "; the turn is stored",
    }.get(rest, f"; {rest}")
    if len(counts) > 1:
        return Result("no", shown(counts), counts)
    if told == "raises, with the reply" and not remains:
        return Result("yes", told, counts)
    return Result("no" if told == "returns as if saved" else "partly", told + remains, counts)


def twice(probe: type[Probe]) -> Result:
    """Make one request twice, as a browser does after a lost connection."""

    async def trial() -> str:
        async with opened(probe) as one:
            calls = 0

            async def model(_: list[str]) -> str:
                nonlocal calls
                calls += 1
                return f"reply {calls}"

            end = ""
            for _ in range(2):
                try:
                    await one.turn(_SESSION, "posted", model, key="request-1")
                except Exception as error:  # noqa: BLE001 - as each library reports it
                    end = f", raised {type(error).__name__}"
            messages = await stored(one)
            replies = sum(said in {"reply 1", "reply 2"} for _, said in messages)
            return f"{users(messages, 'posted')} user, {replies} assistant, {calls} calls{end}"

    counts = _trials(trial, 5)
    outcome = next(iter(counts))
    if outcome.startswith("1 user, 1 assistant, 1 calls"):
        return Result("yes", "once, the model is called once", counts)
    if outcome.startswith("1 user"):
        return Result("partly", "the message once, the reply twice", counts)
    return Result("no", "the whole turn twice", counts)


def corrupt(probe: type[Probe]) -> Result:
    """Cut a stored row in half; then load, and run a turn, with a new probe."""

    async def trial() -> str:
        async with opened(probe) as one:
            for text in ("second", "third"):
                await one.turn(_SESSION, text, answer)
            await one.close()
            one.damage(_SESSION)
            await one.open()

            try:
                messages = await one.stored(_SESSION)
                load = f"load returns {len(messages)} of 6 messages"
            except Exception as error:  # noqa: BLE001 - as each library reports it
                load = f"load raises {type(error).__name__}"

            called: list[int] = []

            async def model(texts: list[str]) -> str:
                called.append(len(texts))
                return reply_to(texts[-1])

            try:
                await one.turn(_SESSION, "fourth", model)
                turn = f"turn runs with {called[-1] - 1} of 6 messages"
            except Exception as error:  # noqa: BLE001 - as each library reports it
                turn = f"turn raises {type(error).__name__}"
                turn += " after the model call" if called else " before the model call"
            return f"{load}; {turn}"

    if probe.stores == "memory":
        return Result("none", "no file")
    counts = _trials(trial, 3)
    outcome = next(iter(counts))
    if "load returns" in outcome:
        return Result("no", "skipped silently", counts)
    error = outcome.split(";")[0].removeprefix("load raises ")
    when = "" if "before the model call" in outcome else ", after the model call"
    return Result("partly", f"{error}; the session stops{when}", counts)


def identical(probe: type[Probe]) -> Result:
    """Say the same thing twice, to a model that gives the same reply."""

    async def trial() -> str:
        async with opened(probe) as one:
            for _ in range(2):
                await one.turn(_SESSION, "next", answer)
            return f"{users(await stored(one), 'next')} of 2"

    counts = _trials(trial, 5)
    if set(counts) == {"2 of 2"}:
        return Result("yes", "both kept", counts)
    return Result("no", "the second turn is dropped", counts)


def erased_bytes(probe: type[Probe]) -> Result:
    """Delete a session, and look for its text in all files of the store, which stays open."""
    secrets = [f"zebra-{number:04}-quartz" for number in range(50)]

    async def trial() -> str:
        async with opened(probe) as one:
            for secret in secrets:
                await one.turn("secret", secret, answer)
            await one.erase("secret")
            content = b"".join(file.read_bytes() for file in one.folder.iterdir() if file.is_file())
            left = sum(secret.encode() in content for secret in secrets)
            return f"{left} of {len(secrets)} messages readable"

    if probe.stores == "memory":
        return Result("none", "no file")
    counts = _trials(trial, 3)
    cell = next(iter(counts))
    return Result("yes" if cell.startswith("0 ") else "no", cell, counts)


def _trials(trial: Callable[[], Coroutine[Any, Any, str]], times: int) -> dict[str, int]:
    return tally(asyncio.run(trial()) for _ in range(times))


def _in_turns(messages: list[Message]) -> bool:
    """Return True if each reply follows its question."""
    pairs = zip(messages[::2], messages[1::2], strict=False)
    return all(reply[1] == reply_to(question[1]) for question, reply in pairs)


async def _usable(one: Probe) -> str:
    """Say if another connection can write, and if the same probe can run another turn."""
    if one.stores == "sqlite":
        try:
            await asyncio.to_thread(_write, one.path)
        except sqlite3.OperationalError as error:
            return f"other connections: {error}"

    try:
        await asyncio.wait_for(one.turn(_SESSION, "next", cast("Model", answer)), 15)
    except Exception as error:  # noqa: BLE001 - as each library reports it
        return f"next turn raises {type(error).__name__}"
    return "usable" if turn_state(await stored(one), "next") == "whole" else "next turn is lost"


def _write(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=_LOCK_WAIT, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")


def _spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        time.sleep(0.0001)


def _limit_files(size: int | None) -> None:
    """Limit the size of files that this process writes; None removes the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    soft = hard if size is None else size
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
