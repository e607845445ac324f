"""Several processes that erase sessions at a revision, while they append turns to them.

An erasure never removes a turn that it did not expect.
"""

from __future__ import annotations

import json

import pytest

from helpers.messages import user
from helpers.processes import start_python
from helpers.stores import every_shared_store, open_store
from tower_memory import Turn

ERASER = """
import json, sys
import anyio
from helpers.stores import open_store
from tower_memory import SessionConflict, Turn

address, backend, place, *revisions = sys.argv[1:]

async def main():
    async with open_store(address) as store:
        erased = []

        async def erase(session_id, revision):
            try:
                numbers = await store.erase(session_id=session_id, expected_revision=revision)
            except SessionConflict as error:
                assert error.actual > revision
                return
            if numbers.sessions:
                erased.append(session_id)

        async def append(session_id):
            await store.append(Turn(session_id, ["new"], turn_id=backend))

        print("ready", flush=True)
        input()
        for n, revision in enumerate(map(int, revisions)):
            if n % 2 == int(place):
                await erase(f"s{n}", revision)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(append, f"s{n}")
                tasks.start_soon(erase, f"s{n}", revision)
    print(json.dumps(erased), flush=True)

anyio.run(main, backend=backend)
"""
"""A program that erases each session at the revision that it is given, and appends a turn to it.

The first of two programs that reaches a session decides whether the erasure can come first.
"""


@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@every_shared_store
async def test_a_session_is_erased_once_and_keeps_each_turn_appended_meanwhile(address, count):
    sessions = [f"s{n}" for n in range(count)]
    async with open_store(address) as store:
        first = [Turn(session_id, [user("first")], turn_id="first") for session_id in sessions]
        revisions = [await store.append(turn) for turn in first]

        backends = ("asyncio", "trio")
        erasers = [
            start_python(ERASER, address, backend, place, *revisions)
            for place, backend in enumerate(backends)
        ]
        for eraser in erasers:
            assert eraser.stdout.readline() == "ready\n"
        for eraser in erasers:
            eraser.stdin.write("\n")
            eraser.stdin.close()

        erased = []
        for eraser in erasers:
            with eraser:
                erased += json.loads(eraser.stdout.read())
            assert eraser.returncode == 0

        assert len(erased) == len({*erased})
        assert 0 < len(erased) < count
        for session_id in sessions:
            held = {turn.turn_id for turn in (await store.load(session_id)).turns}
            assert held == {*backends, *(() if session_id in erased else ("first",))}
