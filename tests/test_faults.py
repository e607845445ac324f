"""Every call of the driver fails in turn: each operation ends in one of our errors or as it should,
no turn is torn, and once the cause is gone the same store works again.
"""

from __future__ import annotations

import sqlite3

import pytest

from tower_memory import (
    LoadSession,
    MemoryLayer,
    SaveError,
    SaveSession,
    SessionError,
    SqliteSessionStore,
    Turn,
)
from tower_memory._stores import worker
from tower_memory._stores.connection import Connection

ITEMS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]

KINDS = {
    "busy": sqlite3.SQLITE_BUSY,
    "input or output": sqlite3.SQLITE_IOERR,
    "full": sqlite3.SQLITE_FULL,
    "corrupt": sqlite3.SQLITE_CORRUPT,
}


class Faults:
    """Which statements fail: the nth from now on, alone or with all that follow it."""

    def __init__(self):
        self.off()

    def off(self):
        self.nth, self.code, self.lasting, self.count = 0, 0, False, 0

    def on(self, nth, code, *, lasting):
        self.nth, self.code, self.lasting, self.count = nth, code, lasting, 0

    def met(self, statement):
        self.count += 1
        if self.nth and (self.count == self.nth or (self.lasting and self.count > self.nth)):
            error = sqlite3.OperationalError(f"injected at {statement.split()[0]}")
            error.sqlite_errorcode = self.code
            raise error


@pytest.fixture
def faults(monkeypatch):
    faults = Faults()

    class Faulty(Connection):
        def execute(self, operation, parameters=(), /):
            if not callable(operation):
                faults.met(operation)
            return super().execute(operation, parameters)

    monkeypatch.setattr(worker, "Connection", Faulty)
    return faults


@pytest.fixture(params=[False, True], ids=["once", "lasting"])
def lasting(request):
    return request.param


async def sweep(faults, code, lasting, operate, check):
    """Let the nth statement of *operate* fail, for every n there is, and *check* after each."""
    nth = 0
    failures = 0
    while True:
        nth += 1
        faults.on(nth, code, lasting=lasting)
        try:
            outcome = await operate(nth)
        except SessionError as error:
            outcome = error
            failures += 1
        reached = faults.count >= nth
        faults.off()
        await check(nth, outcome)
        if not reached:
            assert not isinstance(outcome, SessionError)
            return failures


async def still_works(store):
    revision = await store.append(Turn("other", ITEMS))
    assert (await store.load("other")).revision == revision
    assert not await store._database._workers.writer.run(
        lambda connection: connection.in_transaction
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failed_append_is_whole_or_absent_and_can_be_made_again(
    tmp_path, faults, kind, lasting
):
    path = tmp_path / "sessions.db"
    async with SqliteSessionStore(path, busy_timeout=0.05) as store:

        def turn(nth):
            return Turn(f"s{nth}", ITEMS, turn_id="t")

        async def check(nth, outcome):
            history = await store.load(f"s{nth}")
            assert list(history) in ([], ITEMS)
            if isinstance(outcome, SessionError):
                assert str(path) in str(outcome)
                assert "injected" in str(outcome)
                assert outcome.session_id == f"s{nth}"
            else:
                assert history.revision == outcome
            await store.append(turn(nth))
            assert await store.load(f"s{nth}") == ITEMS
            await still_works(store)

        failures = await sweep(
            faults, KINDS[kind], lasting, lambda nth: store.append(turn(nth)), check
        )
        assert bool(failures) == (kind != "busy" or lasting)  # a lock that passes is waited for


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failed_pop_clear_or_load_does_all_or_nothing(tmp_path, faults, kind, lasting):
    async with SqliteSessionStore(tmp_path / "sessions.db", busy_timeout=0.05) as store:
        for operation in (store.load, store.pop, store.clear):
            for nth in range(1, 20):
                await store.clear(f"s{nth}")
                await store.append(Turn(f"s{nth}", ITEMS))

            async def check(nth, outcome, operation=operation):
                left = list(await store.load(f"s{nth}"))
                if isinstance(outcome, SessionError):
                    assert left == ITEMS
                elif operation == store.pop:
                    assert [*left, outcome] == ITEMS
                elif operation == store.clear:
                    assert left == []
                else:
                    assert outcome == left == ITEMS
                await still_works(store)

            failures = await sweep(
                faults,
                KINDS[kind],
                lasting,
                lambda nth, operation=operation: operation(f"s{nth}"),
                check,
            )
            waited_for = kind == "busy" and not lasting and operation != store.load
            assert bool(failures) != waited_for


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failed_opening_can_be_made_again(tmp_path, faults, kind, lasting):
    stores = [SqliteSessionStore(tmp_path / f"{n}.db", busy_timeout=0.05) for n in range(60)]

    async def check(nth, _outcome):
        await still_works(stores[nth])
        await stores[nth].aclose()

    failures = await sweep(
        faults, KINDS[kind], lasting, lambda nth: stores[nth].__aenter__(), check
    )
    assert failures


@pytest.mark.parametrize("kind", KINDS)
async def test_a_turn_whose_save_fails_comes_back_with_its_reply(tmp_path, faults, kind, lasting):
    answered = set()

    async def model(request):
        answered.add(request["nth"])
        return "b"

    async with SqliteSessionStore(tmp_path / "sessions.db", busy_timeout=0.05) as store:
        memory = MemoryLayer(
            LoadSession(store),
            SaveSession(store),
            session_id=lambda request: f"s{request['nth']}",
            turn_id=lambda _request: "t",
        )

        async def check(nth, outcome):
            history = await store.load(f"s{nth}")
            if nth not in answered:
                assert isinstance(outcome, SessionError)
                assert list(history) == []
            elif isinstance(outcome, SaveError):
                assert outcome.response == "b"
                await store.append(outcome.turn)
                assert await store.load(f"s{nth}") == ITEMS
            else:
                assert (outcome, list(history)) == ("b", ITEMS)
            await still_works(store)

        await store.load("opens it")
        await sweep(
            faults,
            KINDS[kind],
            lasting,
            lambda nth: memory(model)({"nth": nth, "messages": ITEMS[:1]}),
            check,
        )
        assert answered
