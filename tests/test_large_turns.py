"""Large turns are encoded in a thread, and ordinary turns at once."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import anyio
import pytest

from helpers.internals import encode_turn, is_large
from helpers.messages import assistant, user
from tower_memory import InMemorySessionStore, MemoryLayer, MessageItem, Role, Turn
from tower_memory.testing import ScriptedService

LONG = user("long " * 100_000)
ORDINARY = [
    [],
    [user("Hi"), assistant("Hello")],
    [user("word " * 1000)] * 20,
    [None, 1, 2.5, True],
]
LARGE = [
    [LONG],
    [user("Hi")] * 20_000,
    [{"role": "user", "content": [{"type": "image", "source": {"data": "A" * 300_000}}]}],
    [[0] * 20_000],
    [{str(n): n for n in range(20_000)}],
    [MessageItem("1", Role.USER, "x" * 300_000, None)],
]


@pytest.mark.parametrize("items", ORDINARY, ids=range(len(ORDINARY)))
async def test_an_ordinary_turn_is_encoded_in_the_threads_of_its_caller(items):
    assert not is_large(items)
    assert await encode_turn(threading.current_thread, items) is threading.current_thread()


@pytest.mark.parametrize("items", LARGE, ids=range(len(LARGE)))
async def test_a_large_turn_is_encoded_in_another_thread(items):
    assert is_large(items)
    for _ in range(2):
        assert await encode_turn(threading.current_thread, items) is not threading.current_thread()


@dataclass
class Encoding:
    """A function that counts its calls at the same time."""

    now: int = 0
    most: int = 0

    def __call__(self):
        self.now += 1
        self.most = max(self.most, self.now)
        threading.Event().wait(0.005)
        self.now -= 1


async def test_one_large_turn_is_encoded_at_a_time():
    encoding = Encoding()
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(encode_turn, encoding, [LONG])
    assert (encoding.now, encoding.most) == (0, 1)


async def test_the_event_loop_goes_on_while_a_large_turn_is_encoded():
    started, go_on = threading.Event(), threading.Event()

    def encode():
        started.set()
        return go_on.wait(10)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(encode_turn, encode, [LONG])
        while not started.is_set():
            await anyio.lowlevel.checkpoint()
        go_on.set()  # the loop runs although the encoding has not ended


async def test_a_large_request_and_reply_are_saved_as_they_are():
    store = InMemorySessionStore()
    chat = MemoryLayer.over(store, session_id="s")(ScriptedService("reply " * 100_000))
    await chat([LONG])
    assert await store.load("s") == [LONG, assistant("reply " * 100_000)]


async def test_large_metadata_is_saved_as_it_is(store):
    metadata = {"values": list(range(20_000))}
    await store.append(Turn("s", [user("Hi")], metadata=metadata))
    (turn,) = (await store.load("s")).turns
    assert turn.metadata == metadata
