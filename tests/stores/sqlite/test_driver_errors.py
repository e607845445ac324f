"""Errors of the database driver, injected at every statement.

Each operation succeeds or raises one of our errors, no turn is torn, and the same store works again
once the cause is removed.
"""

from __future__ import annotations

import sqlite3

import pytest

from helpers.layers import memory_over
from helpers.sqlite_internals import Connection, replace_connections
from helpers.stores import ITEMS, assert_store_works
from tower_memory import SaveError, SessionError, SqliteSessionStore, Turn

KINDS = {
    "busy": sqlite3.SQLITE_BUSY,
    "input or output": sqlite3.SQLITE_IOERR,
    "full": sqlite3.SQLITE_FULL,
    "corrupt": sqlite3.SQLITE_CORRUPT,
}


class Faults:
    """Statements that fail: the nth from now on, alone or with all statements after it."""

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


# The worker thread, which knows no runtime, turns each kind into the same error.
every_kind = pytest.mark.parametrize(
    ("kind", "anyio_backend"),
    [
        *[(kind, "asyncio") for kind in KINDS],
        *[
            pytest.param(kind, "trio", marks=() if kind == "busy" else pytest.mark.long)
            for kind in KINDS
        ],
    ],
)


@pytest.fixture
def faults(monkeypatch):
    faults = Faults()

    class Faulty(Connection):
        def execute(self, operation, parameters=(), /):
            if not callable(operation):
                faults.met(operation)
            return super().execute(operation, parameters)

    replace_connections(monkeypatch, Faulty)
    return faults


@pytest.fixture(params=[False, True], ids=["once", "lasting"])
def lasting(request):
    return request.param


@pytest.fixture
def busy_timeout(lasting):
    """Return a time that passes soon if the file stays locked, or else never."""
    return 0.05 if lasting else 60


async def fail_every_statement(faults, code, lasting, operate, check):
    """Let the nth statement of *operate(nth)* fail, for every n, and call *check* each time.

    Return the number of operations that failed.
    """
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


@every_kind
async def test_a_failed_append_is_whole_or_absent_and_can_be_repeated(
    tmp_path, faults, kind, lasting, busy_timeout
):
    path = tmp_path / "sessions.db"
    async with SqliteSessionStore(path, busy_timeout=busy_timeout) as store:

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
            await assert_store_works(store)

        failures = await fail_every_statement(
            faults, KINDS[kind], lasting, lambda nth: store.append(turn(nth)), check
        )
        assert bool(failures) == (kind != "busy" or lasting)  # the store waits for a short lock


@every_kind
async def test_a_failed_pop_clear_or_load_does_all_or_nothing(
    tmp_path, faults, kind, lasting, busy_timeout
):
    async with SqliteSessionStore(tmp_path / "sessions.db", busy_timeout=busy_timeout) as store:
        for operation in (store.load, store.pop, store.clear):
            for nth in range(1, 20):
                await store.clear(f"s{nth}")
                await store.append(Turn(f"s{nth}", ITEMS))

            async def check(nth, outcome, operation=operation):
                left = list(await store.load(f"s{nth}"))
                if isinstance(outcome, SessionError):
                    # A clear may fail after its commit, when it empties the log.
                    assert left == ITEMS or (operation == store.clear and left == [])
                elif operation == store.pop:
                    assert [*left, outcome] == ITEMS
                elif operation == store.clear:
                    assert left == []
                else:
                    assert outcome == left == ITEMS
                await assert_store_works(store)

            failures = await fail_every_statement(
                faults,
                KINDS[kind],
                lasting,
                lambda nth, operation=operation: operation(f"s{nth}"),
                check,
            )
            waited_for = kind == "busy" and not lasting and operation != store.load

            assert bool(failures) != waited_for


@every_kind
async def test_a_failed_opening_can_be_repeated(tmp_path, faults, kind, lasting, busy_timeout):
    stores = [
        SqliteSessionStore(tmp_path / f"{n}.db", busy_timeout=busy_timeout) for n in range(60)
    ]

    async def check(nth, _outcome):
        await assert_store_works(stores[nth])
        await stores[nth].aclose()

    failures = await fail_every_statement(
        faults, KINDS[kind], lasting, lambda nth: stores[nth].__aenter__(), check
    )
    assert bool(failures) == (kind != "busy" or lasting)  # the store waits for a short lock


@every_kind
async def test_a_turn_whose_save_fails_is_raised_with_its_reply(
    tmp_path, faults, kind, lasting, busy_timeout
):
    answered = set()

    async def model(request):
        answered.add(request["nth"])
        return "b"

    async with SqliteSessionStore(tmp_path / "sessions.db", busy_timeout=busy_timeout) as store:
        memory = memory_over(
            store, session_id=lambda request: f"s{request['nth']}", turn_id=lambda _request: "t"
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
            await assert_store_works(store)

        await store.load("opens it")
        await fail_every_statement(
            faults,
            KINDS[kind],
            lasting,
            lambda nth: memory(model)({"nth": nth, "messages": ITEMS[:1]}),
            check,
        )

        assert answered
