"""Overlapping turns of one session in two worker processes on one file."""

from __future__ import annotations

import pytest

from helpers.layers import memory_over
from helpers.messages import assistant, user
from helpers.processes import start_python, unmeasured
from helpers.services import must_not_be_called
from tower_memory import SqliteSessionStore, TurnExists

WORKER = """
import sys
import anyio
from helpers.layers import memory_over
from helpers.messages import user
from tower_memory import SessionConflict, SqliteSessionStore

path, backend, overlap, text = sys.argv[1:]

async def model(messages):
    print("called", flush=True)
    sys.stdin.readline()  # blocks this worker, which has no other turn
    return f"{text}: {len(messages)} message"

async def main():
    async with SqliteSessionStore(path) as store:
        memory = memory_over(store, overlap=overlap, turn_id=lambda messages: text)
        try:
            print(await memory(model)([user(text)]))
        except SessionConflict as error:
            print("refused with", error.response)

anyio.run(main, backend=backend)
"""


@pytest.mark.parametrize("overlap", ["serialize", "append", "reject"])
async def test_two_workers_call_the_model_at_once_and_overwrite_nothing(
    path, anyio_backend, overlap
):
    workers = [
        start_python(WORKER, path, anyio_backend, overlap, text, env=unmeasured()) for text in "ab"
    ]
    for worker in workers:
        assert worker.stdout.readline() == "called\n"
    outputs = [worker.communicate("go on\n")[0] for worker in workers]

    saved = [user("a"), assistant("a: 1 message")]
    if overlap == "reject":
        assert outputs == ["a: 1 message\n", "refused with b: 1 message\n"]
    else:
        assert outputs == ["a: 1 message\n", "b: 1 message\n"]
        saved += [user("b"), assistant("b: 1 message")]

    async with SqliteSessionStore(path) as store:
        assert await store.load("s") == saved
        again = memory_over(store, overlap=overlap, turn_id=lambda messages: "a")
        with pytest.raises(TurnExists):
            await again(must_not_be_called)([user("a")])
