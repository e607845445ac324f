"""The events of turns in the log."""

from __future__ import annotations

import logging

import anyio
import pytest

from helpers.internals import report_every_save_as_slow, report_every_wait_as_long
from helpers.layers import memory_over
from helpers.locks import count_waiters
from helpers.messages import user
from helpers.processes import run_python, unmeasured
from helpers.services import BlockingModel, repeat_last
from helpers.streams import fail_to_save, read_all, stream_last
from helpers.waiting import until
from tower_memory import InMemorySessionStore, LoadSession, MemoryLayer, SaveError
from tower_memory.windows import LastTurns

SECRET = "my secret, 4711"


@pytest.fixture
def store():
    return InMemorySessionStore()


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.DEBUG, logger="tower_memory")
    return caplog


def events(caplog):
    """Return the level and the event of each record, and whether its time is a positive number."""
    return [(each.levelname, each.event, each.seconds > 0) for each in caplog.records]


LOADED, SAVED = ("DEBUG", "load", True), ("DEBUG", "save", True)


async def test_each_load_and_each_save_is_logged_with_its_size_and_time(store, logged):
    service = memory_over(store, turn_id=lambda messages: messages[0]["content"])(repeat_last)
    await service([user("a")])
    await service([user("b"), user("c")])

    assert events(logged) == [LOADED, SAVED] * 2
    load, save = logged.records[2:]
    assert (load.session_id, load.items, load.revision) == ("s", 2, 1)
    assert load.getMessage().startswith("session 's': loaded 2 items at revision 1 in ")
    assert (save.session_id, save.turn_id, save.items, save.revision) == ("s", "b", 3, 2)
    assert save.getMessage().startswith("session 's': saved turn 'b' of 3 items at revision 2 in ")


async def test_a_stream_and_each_load_of_a_window_are_logged(store, logged):
    for _ in range(2):
        await read_all(await memory_over(store, window=LastTurns(1))(stream_last)([user("a")]))
    assert {event[1] for event in events(logged)} == {"load", "save"}
    assert events(logged)[-1] == SAVED


async def test_a_save_of_a_service_that_returns_no_revision_is_logged(store, logged):
    async def save(turn):
        await store.append(turn)

    layer = MemoryLayer(LoadSession(store), save, session_id="s", store=store)
    await layer(repeat_last)([user("a")])
    assert "at revision None in" in logged.records[-1].getMessage()


async def test_nothing_is_logged_at_the_usual_level(store, caplog):
    await memory_over(store)(repeat_last)([user("a")])
    assert caplog.records == []


async def test_a_slow_save_is_a_warning(store, caplog, monkeypatch):
    report_every_save_as_slow(monkeypatch)
    await memory_over(store)(repeat_last)([user("a")])
    assert events(caplog) == [("WARNING", "save", True)]


async def test_a_save_that_fails_raises_and_is_not_logged(store, logged):
    layer = MemoryLayer(LoadSession(store), fail_to_save, session_id="s", store=store)
    with pytest.raises(SaveError):
        await layer(repeat_last)([user("a")])
    assert events(logged) == [LOADED]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_long_wait_for_other_turns_is_a_warning(store, caplog, monkeypatch, cancelled):
    report_every_wait_as_long(monkeypatch)
    model = BlockingModel()
    service = memory_over(store)(model)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service, [user("a")])
        await until(lambda: model.called)
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(service, [user("b")])
            await until(count_waiters)
            if cancelled:
                waiting.cancel_scope.cancel()
            else:
                model.go_on.set()
        model.go_on.set()

    assert events(caplog) == [("WARNING", "wait", True)]
    (record,) = caplog.records
    assert record.session_id == "s"
    assert record.getMessage().startswith("session 's': a turn waited 0.0 s for other turns")


async def test_a_short_wait_is_not_logged(store, caplog):
    model = BlockingModel()
    async with anyio.create_task_group() as tasks:
        for text in "ab":
            tasks.start_soon(memory_over(store)(model), [user(text)])
        await until(count_waiters)
        model.go_on.set()
    assert caplog.records == []


async def test_no_record_has_content(store, logged, monkeypatch):
    report_every_save_as_slow(monkeypatch)
    service = memory_over(store, metadata=lambda *_: {"note": SECRET}, keep_interrupted=True)
    await service(repeat_last)([user(SECRET)])
    stream = await service(stream_last)([user(SECRET)])
    await anext(stream)
    del stream
    assert [each.event for each in logged.records] == ["load", "save", "load", "lost_stream"]
    for record in logged.records:
        assert SECRET not in record.getMessage() + repr(vars(record))


LOSE_A_STREAM = """
import sys
import anyio
from helpers.layers import memory_over
from helpers.messages import user
from helpers.streams import stream_last
from tower_memory import InMemorySessionStore

backend, until_exit = sys.argv[1:]
kept = []

async def main():
    memory = memory_over(InMemorySessionStore(), keep_interrupted=True)
    stream = await memory(stream_last)([user("a")])
    await anext(stream)
    if until_exit == "True":
        kept.append([stream, kept])  # in a cycle, so that only the exit collects it

anyio.run(main, backend=backend)
"""


@pytest.mark.parametrize("until_exit", [False, True])
def test_a_lost_stream_is_reported_on_stderr_without_any_setting(anyio_backend, until_exit):
    done = run_python(LOSE_A_STREAM, anyio_backend, until_exit, check=True, env=unmeasured())
    assert done.stderr == (
        "session 's': TextStream was dropped or closed without 'await', so its received chunks (1) "
        "are lost; read it in an 'async with'\n"
    )
