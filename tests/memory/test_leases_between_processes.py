"""A question whose process was killed: other processes see it, and one of them answers it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from helpers.layers import memory_over
from helpers.messages import assistant, user
from helpers.processes import start_python, unmeasured
from helpers.services import must_not_be_called
from tower_memory import SessionConflict, SqliteSessionStore

KILLED = """
import sys
import anyio
from helpers.internals import renew_every
from helpers.layers import memory_over
from helpers.messages import user
from pytest import MonkeyPatch
from tower_memory import SqliteSessionStore

path, backend = sys.argv[1:]
renew_every(MonkeyPatch(), 0.01)

async def model(messages):
    print("called", flush=True)
    await anyio.sleep_forever()

async def main():
    async with SqliteSessionStore(path) as store:
        memory = memory_over(store, turn_id=lambda messages: "t", journal=True)
        await memory(model)([user("a")])

anyio.run(main, backend=backend)
"""

RETRYING = """
import sys, time
import anyio
from helpers.layers import memory_over
from helpers.messages import user
from tower_memory import SessionConflict, SqliteSessionStore

path, backend, name = sys.argv[1:]
now = time.time_ns
time.time_ns = lambda: now() + 61 * 10**9  # the lease has ended

async def model(messages):
    print("called", flush=True)
    sys.stdin.readline()  # blocks this worker, which has no other turn
    return name

async def main():
    async with SqliteSessionStore(path) as store:
        memory = memory_over(store, turn_id=lambda messages: "t", journal=True)
        await store.load("s")
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            print(await memory(model)([user("a")]))
        except SessionConflict as error:
            print("refused with", error.response, flush=True)

anyio.run(main, backend=backend)
"""


async def pending(path):
    """Return the state of the pending turn, and the end of its lease, as this process sees them."""
    async with SqliteSessionStore(path) as store:
        (turn,) = await store.pending("s")
        return turn.state, turn.lease_until


async def assert_is_refused(path):
    """Fail unless the same request is refused in this process before its model is called."""
    async with SqliteSessionStore(path) as store:
        memory = memory_over(store, turn_id=lambda messages: "t", journal=True)
        with pytest.raises(SessionConflict, match="turn 't' is running elsewhere until"):
            await memory(must_not_be_called)([user("a")])


async def test_a_question_whose_process_was_killed_is_answered_once_after_its_lease(
    path, anyio_backend, monkeypatch
):
    killed = start_python(KILLED, path, anyio_backend, env=unmeasured())
    assert killed.stdout.readline() == "called\n"
    state, begun_until = await pending(path)
    assert state == "running"
    with anyio.fail_after(60):
        while (await pending(path))[1] == begun_until:  # until the lease is renewed
            await anyio.lowlevel.checkpoint()
    await assert_is_refused(path)

    killed.kill()
    killed.communicate()
    state, until = await pending(path)
    assert state == "running"
    assert begun_until < until < datetime.now(UTC) + timedelta(seconds=60)
    await assert_is_refused(path)

    retrying = [
        start_python(RETRYING, path, anyio_backend, name, env=unmeasured()) for name in "xyz"
    ]
    for each in retrying:
        assert each.stdout.readline() == "ready\n"
    with monkeypatch.context() as patched:
        now = time.time_ns
        patched.setattr("time.time_ns", lambda: now() + 61 * 10**9)
        assert await pending(path) == ("left", until)

    for each in retrying:
        each.stdin.write("go on\n")
        each.stdin.flush()
    answers = [each.stdout.readline() for each in retrying]
    assert sorted(answers) == ["called\n", "refused with None\n", "refused with None\n"]
    outputs = [each.communicate("go on\n")[0] for each in retrying]

    winner = "xyz"[answers.index("called\n")]
    assert sorted(outputs) == ["", "", f"{winner}\n"]
    async with SqliteSessionStore(path) as store:
        assert await store.pending("s") == []
        assert await store.load("s") == [user("a"), assistant(winner)]
