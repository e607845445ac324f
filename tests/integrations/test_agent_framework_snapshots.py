"""Snapshots of agent-framework's sessions in a store, on both runtimes."""

from __future__ import annotations

from types import MappingProxyType

import anyio
import pytest
from agent_framework import AgentSession, InMemoryHistoryProvider, Message

from helpers.agents import agent_with, snapshot_store, texts
from helpers.passing_store import Meanwhile
from helpers.processes import run_python
from helpers.recording_store import recording_class
from tower_memory import (
    InMemorySessionStore,
    ScopedStore,
    SessionError,
    SqliteSessionStore,
    Turn,
    UnencodableItemError,
)
from tower_memory.bridges import ThreadedStore
from tower_memory.integrations.agent_framework import SessionHistoryProvider, SnapshotStore
from tower_memory.postgres import PostgresSessionStore

SCOPE = "agent-framework-snapshots"


def session_with(**state):
    session = AgentSession(session_id="chat", service_session_id="resp_1")
    session.state.update(state)
    return session


async def test_a_snapshot_comes_back_with_its_ids_and_its_state(store):
    snapshots = snapshot_store(store)
    state = {"facts": {"name": "Anna"}, "history": {"messages": [Message("user", ["Hi"])]}}
    await snapshots.set("key", session_with(**state))

    loaded = await snapshots.get("key")
    assert (loaded.session_id, loaded.service_session_id) == ("chat", "resp_1")
    assert loaded.state["facts"] == state["facts"]
    assert texts(loaded.state["history"]["messages"]) == ["Hi"]
    assert await snapshots.get("other") is None


async def test_a_loaded_session_is_a_copy(store):
    snapshots = snapshot_store(store)
    session = session_with(facts={})
    await snapshots.set("key", session)
    session.state["facts"]["name"] = "Anna"
    (await snapshots.get("key")).state["facts"]["name"] = "Ben"
    assert (await snapshots.get("key")).state == {"facts": {}}


async def test_a_snapshot_takes_the_place_of_the_one_before_it(store):
    snapshots = snapshot_store(store)
    for number in range(3):
        await snapshots.set("key", session_with(number=number))
    assert (await snapshots.get("key")).state == {"number": 2}
    assert len(await ScopedStore(store, SCOPE).load("key")) == 1


async def test_a_deleted_snapshot_is_gone_and_a_new_one_may_follow(store):
    snapshots = snapshot_store(store)
    await snapshots.delete("key")
    await snapshots.set("key", session_with(number=1))
    await snapshots.delete("key")
    assert await snapshots.get("key") is None
    assert await ScopedStore(store, SCOPE).describe("key") is None

    await snapshots.set("key", session_with(number=2))
    assert (await snapshots.get("key")).state == {"number": 2}


async def test_the_last_of_many_writers_at_once_wins(store):
    snapshots = snapshot_store(store)
    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(snapshots.set, "key", session_with(number=number))

    assert len(await ScopedStore(store, SCOPE).load("key")) == 1
    assert (await snapshots.get("key")).state["number"] in range(10)
    await snapshots.set("key", session_with(number=10))
    assert (await snapshots.get("key")).state == {"number": 10}


async def test_a_writer_that_another_one_overtakes_writes_again():
    store = InMemorySessionStore()
    others = [session_with(number=1), session_with(number=2)]

    async def overtake():
        await snapshot_store(store).set("key", others.pop())

    overtaken = Meanwhile(store, overtake, overtake)
    await snapshot_store(overtaken).set("key", session_with(number=3))
    assert others == []
    assert (await snapshot_store(store).get("key")).state == {"number": 3}
    assert len(await ScopedStore(store, SCOPE).load("key")) == 1


async def test_a_snapshot_and_a_history_of_one_id_do_not_meet(store):
    snapshots, history = snapshot_store(store), SessionHistoryProvider(store)
    await history.save_messages("chat", [Message("user", ["Hi"])])
    await snapshots.set("chat", session_with())
    assert texts(await history.get_messages("chat")) == ["Hi"]
    await snapshots.delete("chat")
    assert texts(await history.get_messages("chat")) == ["Hi"]


async def test_a_tenant_does_not_see_the_snapshots_of_another(store):
    anna, ben = (snapshot_store(ScopedStore(store, name)) for name in ("anna", "ben"))
    await anna.set("key", session_with())
    await ben.delete("key")
    assert await ben.get("key") is None
    assert await anna.get("key") is not None


async def test_an_agent_goes_on_with_a_restored_session():
    snapshots = snapshot_store(InMemorySessionStore())
    agent = agent_with(InMemoryHistoryProvider())
    session = agent.create_session(session_id="chat")
    await agent.run("One", session=session)
    await snapshots.set("key", session)

    await agent.run("Two", session=await snapshots.get("key"))
    assert agent.client.said() == ["One", "1 messages", "Two"]


@pytest.mark.parametrize("session_id", ["", None, 7])
@pytest.mark.parametrize("method", ["get", "set", "delete"])
async def test_a_bad_id_is_refused_as_the_base_class_does(session_id, method):
    snapshots = snapshot_store(InMemorySessionStore())
    more = [session_with()] if method == "set" else []
    with pytest.raises(ValueError, match="session_id must be a non-empty string"):
        await getattr(snapshots, method)(session_id, *more)


async def test_a_structured_service_id_comes_back_as_a_dict():
    snapshots = snapshot_store(InMemorySessionStore())
    session = AgentSession(service_session_id=MappingProxyType({"thread": "t1"}))
    await snapshots.set("key", session)
    assert (await snapshots.get("key")).service_session_id == {"thread": "t1"}


async def test_a_state_that_json_cannot_hold_is_refused_and_the_old_snapshot_stays():
    snapshots = snapshot_store(InMemorySessionStore())
    await snapshots.set("key", session_with(number=1))
    with pytest.raises(UnencodableItemError, match="state.number"):
        await snapshots.set("key", session_with(number=float("nan")))
    with (
        pytest.raises(UnencodableItemError, match="state.thing"),
        pytest.warns(RuntimeWarning, match="unsupported type 'object'"),  # the framework's
    ):
        await snapshots.set("key", session_with(thing=object()))
    assert (await snapshots.get("key")).state == {"number": 1}


async def test_a_session_of_a_subclass_is_refused():
    class Session(AgentSession):
        pass

    snapshots = snapshot_store(InMemorySessionStore())
    with pytest.raises(TypeError, match=r"no subclass, got Session; keep .* in session.state"):
        await snapshots.set("key", Session())


@pytest.mark.parametrize("item", ["Hi", {"role": "user", "content": "Hi"}])
async def test_an_item_that_is_no_snapshot_is_refused(item):
    store = InMemorySessionStore()
    await ScopedStore(store, SCOPE).append(Turn("key", [item]))
    with pytest.raises(SessionError, match="session 'key': it has an item that is no snapshot"):
        await snapshot_store(store).get("key")


async def test_a_store_of_every_event_loop_works(path):
    async with ThreadedStore(SqliteSessionStore(path)) as store:
        snapshots = snapshot_store(store)
        await snapshots.set("key", session_with(number=1))
        assert (await snapshots.get("key")).state == {"number": 1}


def test_a_store_that_cannot_erase_is_refused():
    with pytest.raises(TypeError, match="store must be able to erase sessions"):
        SnapshotStore(recording_class()())
    with pytest.raises(TypeError, match="store must have load, append, pop and clear"):
        SnapshotStore("chat.db")


def test_making_a_snapshot_store_warns_that_its_base_class_is_experimental():
    with pytest.warns(FutureWarning, match=r"^\[SESSION_STORE\] SnapshotStore") as caught:
        SnapshotStore(InMemorySessionStore())
    assert caught[0].filename == __file__


def test_importing_the_module_does_not_warn():
    program = "import tower_memory.integrations.agent_framework"
    done = run_python(f"import warnings; warnings.simplefilter('error'); {program}")
    assert (done.returncode, done.stderr) == (0, "")


async def test_snapshots_stand_in_postgres(tables_url):
    async with PostgresSessionStore(tables_url) as store:
        snapshots = snapshot_store(store)
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(snapshots.set, "key", session_with(number=number))
        assert len(await ScopedStore(store, SCOPE).load("key")) == 1
        await snapshots.delete("key")
        assert await snapshots.get("key") is None
