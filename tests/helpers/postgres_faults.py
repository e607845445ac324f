"""Faults of a Postgres server, and calls of a store that meet them."""

from __future__ import annotations

from contextlib import contextmanager

import psycopg
import pytest
from anyio import fail_after

from helpers.messages import assistant, user
from tower_memory import SessionError, Turn

GRACE = 1.0
"""Seconds beyond its patience after which a call must have returned."""

SHORT = 0.3
"""Patience of a store in seconds, where its end matters."""

LONG = 30.0
"""Patience of a store in seconds that no fault of a test outlasts."""

ITEMS = [user("a"), assistant("b")]

CALLS = {
    "load": lambda store: store.load("held"),
    "append": lambda store: store.append(Turn("held", ITEMS, turn_id="late")),
    "pop": lambda store: store.pop("held"),
    "clear": lambda store: store.clear("held"),
    "replace": lambda store: replace(store, "held"),
}
"""Calls of each kind, on a session that `hold` has made."""

FAIL = """
CREATE SEQUENCE {table}_faults;
CREATE FUNCTION fail_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('{table}_faults') <= {times} THEN
        IF '{state}' = 'skipped' THEN
            RETURN NULL;
        END IF;
        RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'raised by a test';
    END IF;
    RETURN coalesce(NEW, OLD);
END $$;
CREATE TRIGGER fail BEFORE INSERT OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION fail_{table}();
"""
"""Let the first changes of a table fail. A sequence counts, since it is not rolled back."""

ALWAYS = 10**6


async def hold(store):
    """Let *store* hold the session "held", with the turns "first" and "second"."""
    await store.append(Turn("held", ITEMS, turn_id="first"))
    await store.append(Turn("held", ITEMS, turn_id="second"))
    await store.load("held")
    await store.load("held")  # the session cache keeps what was loaded twice


async def replace(store, session_id):
    """Replace the turn "second" of a session."""
    revision = (await store.load(session_id)).revision
    return await store.append(
        Turn(session_id, ITEMS, turn_id="new", expected_revision=revision, replaces="second")
    )


async def append_turns(store, session_id, count, saved):
    """Append *count* turns one after another, and add the id of each to *saved*."""
    for number in range(count):
        turn_id = f"{session_id} {number}"
        await store.append(Turn(session_id, turn_items(turn_id), turn_id=turn_id))
        saved.append(turn_id)


def turn_items(turn_id):
    """Return the items of the turns of `append_turns`."""
    return [user(turn_id), assistant(turn_id)]


async def assert_saved(store, session_ids, count):
    """Fail unless each session has the turns of `append_turns`, each once, whole and in order."""
    for session_id in session_ids:
        turn_ids = [f"{session_id} {number}" for number in range(count)]
        history = await store.load(session_id)
        assert [turn.turn_id for turn in history.turns] == turn_ids
        assert list(history) == [item for turn_id in turn_ids for item in turn_items(turn_id)]


async def assert_works(store):
    """Fail unless *store* appends, loads, pops and clears."""
    session_id = "after the fault"
    revision = await store.append(Turn(session_id, ITEMS))
    assert (await store.load(session_id)).revision == revision
    assert await store.pop(session_id) == ITEMS[-1]
    await store.clear(session_id)
    assert list(await store.load(session_id)) == []


def fail(server, url, table, state, *, times=ALWAYS):
    """Let the next *times* changes of rows of *table* fail with the SQLSTATE *state*.

    If it is "skipped", they do nothing: to a store, another writer was faster.
    """
    server.execute(FAIL.format(table=table, state=state, times=times), url=url)


def stop_failing(server, url, table):
    """End the faults of `fail`."""
    server.execute(f"DROP FUNCTION fail_{table} CASCADE; DROP SEQUENCE {table}_faults", url=url)


@contextmanager
def locked(url, *session_ids):
    """Lock the head rows of sessions, as another program does, until the block ends."""
    with psycopg.connect(url) as connection:
        lock = "SELECT 1 FROM memory_head WHERE session_id = ANY(%b) FOR UPDATE"
        encoded = [session_id.encode() for session_id in session_ids]
        assert len(connection.execute(lock, [encoded]).fetchall()) == len(session_ids)
        yield


async def assert_raises_in_time(store, name, match=None):
    """Fail unless the call *name* of a store with the patience `SHORT` raises in time."""
    with fail_after(SHORT + GRACE), pytest.raises(SessionError, match=match):
        await CALLS[name](store)


async def recover(store):
    """Wait until *store* works again."""
    with fail_after(LONG):
        while True:
            try:
                await assert_works(store)
            except SessionError:
                continue
            return
