"""The scenarios with a model, an overlap or a disk that goes wrong.

Each fault is forced in the same way for all libraries.
"""

from __future__ import annotations

import asyncio
import resource
from contextlib import suppress
from typing import Final

from benchmarks.comparison.outcomes import (
    Result,
    carries,
    reply_to,
    shown,
    turn_state,
    users,
)
from benchmarks.comparison.probe import Message, Probe
from benchmarks.comparison.trials import (
    MODEL_SECONDS,
    SESSION,
    answer,
    opened,
    run_trials,
    stored,
    usable,
)

_OVERLAP_WAIT: Final = 0.5
"""Seconds that the first model call waits for an overlapping turn to end."""


def retry(probe_class: type[Probe]) -> Result:
    """Let the model fail once, and make the request again."""

    async def trial() -> str:
        async with opened(probe_class) as probe:
            seen: list[list[str]] = []

            async def failing(texts: list[str]) -> str:
                seen.append(texts)
                if len(seen) == 1:
                    raise ConnectionError
                return reply_to(texts[-1])

            try:
                await probe.turn(SESSION, "again", failing)
            except Exception:  # noqa: BLE001 - as each library reports it
                await probe.turn(SESSION, "again", failing)
            return f"stored {users(await stored(probe), 'again')}, sent {seen[-1].count('again')}"

    counts = run_trials(trial, 5)
    once = set(counts) == {"stored 1, sent 1"}
    return Result("yes" if once else "no", "once" if once else "stored and sent twice", counts)


def overlap(probe_class: type[Probe]) -> Result:
    """Start a second turn while the model answers the first one."""

    async def trial() -> str:
        async with opened(probe_class) as probe:
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
                    return await probe.turn(SESSION, "fast", answer)
                finally:
                    fast_ended.set()

            ends = await asyncio.gather(
                probe.turn(SESSION, "slow", slow), run_fast(), return_exceptions=True
            )
            messages = await stored(probe)
            states = [
                f"{text} {_end(end, turn_state(messages, text))}"
                for text, end in zip(("slow", "fast"), ends, strict=True)
            ]
            order = "" if _in_turns(messages) else ", interleaved"
            return ", ".join(states) + order

    return _overlap_result(probe_class, run_trials(trial, 10))


def _end(end: object, state: str) -> str:
    if isinstance(end, BaseException):
        return f"raised {type(end).__name__} ({state})"
    return "kept" if state == "whole" else f"returned, but {state} in the store"


def _overlap_result(probe_class: type[Probe], counts: dict[str, int]) -> Result:
    if set(counts) == {"slow kept, fast kept"}:
        return Result("yes", "all kept, in turns", counts)
    if set(counts) == {"slow kept, fast kept, interleaved"}:
        return Result("yes", "all kept, interleaved", counts)
    if any("returned, but absent" in outcome for outcome in counts):
        return Result("no", "a returned turn is lost", counts)
    if any("returned, but" in outcome for outcome in counts):
        return Result("no", "a returned turn loses its question", counts)

    if probe_class.has_reply_before_save:
        return Result("partly", "one save raises; the program has the reply", counts)
    stays = ", its question stays" if any("(question)" in outcome for outcome in counts) else ""
    return Result("partly", f"one turn raises, its paid reply is lost{stays}", counts)


def full_disk(probe_class: type[Probe]) -> Result:
    """Let every write to a file fail from the moment that the model has answered."""

    async def trial() -> str:
        async with opened(probe_class) as probe:

            async def model(texts: list[str]) -> str:
                await asyncio.sleep(MODEL_SECONDS)
                if probe.stores == "memory":
                    probe.fail_saves()
                else:
                    _limit_files(1)
                return reply_to(texts[-1])

            try:
                await probe.turn(SESSION, "unsaved", model)
            except Exception as error:  # noqa: BLE001 - as each library reports it
                has_reply = probe.has_reply_before_save or carries(error, reply_to("unsaved"))
                told = "raises, with the reply" if has_reply else "raises, the reply is lost"
            else:
                told = "returns as if saved"
            _limit_files(None)
            return f"{told}; {turn_state(await stored(probe), 'unsaved')}, {await usable(probe)}"

    counts = run_trials(trial, 5)
    outcome = next(iter(counts))
    told, _, rest = outcome.partition("; ")
    remains = {
        "absent, usable": "",
        "question, usable": "; the user's message stays",
        "whole, usable": "; the turn is stored",
    }.get(rest, f"; {rest}")
    if len(counts) > 1:
        return Result("no", shown(counts), counts)
    if told == "raises, with the reply" and not remains:
        return Result("yes", told, counts)
    return Result("no" if told == "returns as if saved" else "partly", told + remains, counts)


def twice(probe_class: type[Probe]) -> Result:
    """Make one request twice, as a browser does after a lost connection."""

    async def trial() -> str:
        async with opened(probe_class) as probe:
            calls = 0

            async def model(_: list[str]) -> str:
                nonlocal calls
                calls += 1
                return f"reply {calls}"

            end = ""
            for _ in range(2):
                try:
                    await probe.turn(SESSION, "posted", model, key="request-1")
                except Exception as error:  # noqa: BLE001 - as each library reports it
                    end = f", raised {type(error).__name__}"
            messages = await stored(probe)
            replies = sum(said in {"reply 1", "reply 2"} for _, said in messages)
            return f"{users(messages, 'posted')} user, {replies} assistant, {calls} calls{end}"

    counts = run_trials(trial, 5)
    outcome = next(iter(counts))
    if outcome.startswith("1 user, 1 assistant, 1 calls"):
        return Result("yes", "once, the model is called once", counts)
    if outcome.startswith("1 user"):
        return Result("partly", "the message once, the reply twice", counts)
    return Result("no", "the whole turn twice", counts)


def _in_turns(messages: list[Message]) -> bool:
    """Return True if each reply follows its question."""
    pairs = zip(messages[::2], messages[1::2], strict=False)
    return all(reply[1] == reply_to(question[1]) for question, reply in pairs)


def _limit_files(size: int | None) -> None:
    """Limit the size of files that this process writes; None removes the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    soft = hard if size is None else size
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
