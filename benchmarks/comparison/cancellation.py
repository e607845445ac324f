"""The scenarios in which the caller's task is cancelled.

A timed cancellation comes from a thread that sleeps: an event loop's own timers are too coarse.
After the cancellation, a write that a thread has begun may end, so the session is read 0.5 s later.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median
from threading import Thread
from typing import Any, Final

from benchmarks.comparison.outcomes import Result, reply_to, shown, tally, turn_state
from benchmarks.comparison.probe import Probe
from benchmarks.comparison.trials import MODEL_SECONDS, SESSION, opened, run_trials, stored, usable

_CANCEL_POINTS: Final = 100
_SETTLE_SECONDS: Final = 0.5
"""Seconds for the end of a write that a thread had begun before the cancellation."""


def cancel_model(probe_class: type[Probe]) -> Result:
    """Cancel the call while the model works on it; then run another turn."""

    async def trial() -> str:
        async with opened(probe_class) as probe:
            began = asyncio.Event()

            async def endless(_: list[str]) -> str:
                began.set()
                await asyncio.sleep(60)
                raise AssertionError

            task = asyncio.create_task(probe.turn(SESSION, "stopped", endless))
            await began.wait()
            task.cancel()
            await asyncio.wait([task])
            before = await stored(probe)
            return f"{turn_state(before, 'stopped')}, {await usable(probe)}"

    counts = run_trials(trial, 10)
    if set(counts) == {"absent, usable"}:
        return Result("yes", "unchanged", counts)
    if set(counts) == {"question, usable"}:
        return Result("no", "the user's message stays, without a reply", counts)
    return Result("no", shown(counts), counts)


def cancel_save(probe_class: type[Probe]) -> Result:
    """Cancel the call at many moments after the model has answered."""

    async def save_time() -> float:
        async with opened(probe_class) as probe:
            times = []
            for _ in range(9):
                answered: list[float] = []

                async def timed(texts: list[str], answered: list[float] = answered) -> str:
                    await asyncio.sleep(MODEL_SECONDS)
                    answered.append(time.perf_counter())
                    return reply_to(texts[-1])

                await probe.turn(SESSION, "timed", timed)
                times.append(time.perf_counter() - answered[0])
            return median(times)

    async def trial(delay: float) -> str:
        async with opened(probe_class) as probe:
            loop = asyncio.get_running_loop()

            def cancel() -> None:
                _spin(delay)
                loop.call_soon_threadsafe(task.cancel)

            thread = Thread(target=cancel)

            async def model(texts: list[str]) -> str:
                await asyncio.sleep(MODEL_SECONDS)
                thread.start()
                return reply_to(texts[-1])

            task = asyncio.create_task(probe.turn(SESSION, "stopped", model))
            _, pending = await asyncio.wait([task], timeout=20)
            if pending:
                return "hangs"
            await asyncio.to_thread(thread.join)
            await asyncio.sleep(_SETTLE_SECONDS)
            at_once = turn_state(await stored(probe), "stopped")
            use = await usable(probe)
            later = turn_state(await stored(probe), "stopped")
            change = "" if at_once == later else f", {later} after the next turn"
            return f"{at_once}{change}, {use}"

    duration = asyncio.run(save_time())
    counts = tally(
        asyncio.run(trial(1.3 * duration * point / _CANCEL_POINTS))
        for point in range(_CANCEL_POINTS)
    )
    observed: dict[str, Any] = {"outcomes": counts, "save_ms": round(duration * 1000, 2)}
    if set(counts) <= {"absent, usable", "whole, usable"}:
        return Result("yes", "whole or absent, usable", observed)

    part = sum(
        count for outcome, count in counts.items() if outcome.startswith(("question", "part"))
    )
    locked = sum(count for outcome, count in counts.items() if not outcome.endswith("usable"))
    changed = sum(count for outcome, count in counts.items() if "after the next" in outcome)
    found = {"stored in part": part, "unusable": locked, "changed by a later turn": changed}
    cells = [f"{name}: {count}" for name, count in found.items() if count]
    return Result("no", ", ".join(cells), observed)


def _spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        time.sleep(0.0001)
