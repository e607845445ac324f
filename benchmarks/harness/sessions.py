"""Fill sessions, and time concurrent turns in them."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from benchmarks.sides import Side
from benchmarks.transcripts import TOOLS_EVERY, ChatTurn, Transcript

_LOG_BYTES = 6 * 2**20
"""More bytes than a write-ahead log holds when a commit copies it to the file."""


def session_id(number: int) -> str:
    """Return the session id for *number*; it is as long as a UUID."""
    return f"{number:032x}"


async def grow_log(side: Side) -> None:
    """Let the side's write-ahead log grow to its full size, with turns of a session of their own.

    The first growth is slow: each commit makes the log's file larger. Later commits overwrite it.
    """
    message = {"role": "user", "content": "x" * (_LOG_BYTES // 4)}
    await side.fill("log", [ChatTurn(message, [message])] * 2)
    await side.fill("log", [ChatTurn(message, [])])  # begins the log anew


async def fill_sessions(
    side: Side, count: int, items: int, *, tools_every: int = TOOLS_EVERY
) -> dict[str, Transcript]:
    """Fill *count* sessions of *items* items and load each once; return transcripts by session id.

    The loads put the sessions into caches, if the side has any.
    """
    transcripts = {
        session_id(number): Transcript(number, tools_every=tools_every) for number in range(count)
    }

    for name, transcript in transcripts.items():
        await side.fill(name, list(transcript.turns_until(items)))
        await side.load(name)

    return transcripts


async def time_turns(side: Side, transcripts: Mapping[str, Transcript], turns: int) -> float:
    """Run the next *turns* turns of each session, all sessions concurrently; return the seconds."""
    prepared = [
        (name, [side.prepare(turn) for turn in transcript.turns(turns)])
        for name, transcript in transcripts.items()
    ]

    start = perf_counter()
    await side.run_concurrently(prepared)
    return perf_counter() - start
