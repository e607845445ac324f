"""Agents of agent-framework whose history is in a store. Their tools need asyncio."""

from __future__ import annotations

import asyncio
from math import nan

import anyio
import pytest
from agent_framework import (
    AgentSession,
    CompactionProvider,
    Content,
    ContextProvider,
    Message,
    SlidingWindowStrategy,
    tool,
)

from helpers.agents import agent_with, call, texts
from helpers.cancelling import by_scope, natively
from helpers.passing_store import PassingStore
from helpers.processes import start_python
from tower_memory import (
    InMemorySessionStore,
    SaveError,
    ScopedStore,
    SessionCleared,
    SqliteSessionStore,
    TurnExists,
    UnencodableItemError,
)
from tower_memory.integrations.agent_framework import SessionHistoryProvider
from tower_memory.postgres import PostgresSessionStore
from tower_memory.windows import LastItems, LastTurns, Summarised

DISK_FULL = OSError("disk full")


@pytest.fixture
def anyio_backend():
    """Run on asyncio only, since the framework makes tasks of asyncio for tools."""
    return "asyncio"


@tool(approval_mode="never_require")
def weather() -> str:
    """Return the weather."""
    return "sunny"


class FailingStore(PassingStore):
    """A store whose appends fail with given errors, in order; None lets one succeed.

    Attributes:
        is_late: True if an append fails after it has stored its turn.
    """

    def __init__(self, store, *errors, is_late=False):
        super().__init__(store)
        self.errors = list(errors)
        self.is_late = is_late

    async def append(self, turn):
        error = self.errors.pop(0) if self.errors else None
        if error is not None and not self.is_late:
            raise error
        revision = await super().append(turn)
        if error is not None:
            raise error
        return revision


def with_run_id(session, run_id, provider_id="tower_memory"):
    """Give the next run of *session* the id *run_id*."""
    session.state.setdefault(provider_id, {})["run_id"] = run_id
    return session


async def said(store, session_id="chat"):
    """Return the texts of the messages of a session."""
    return texts(await SessionHistoryProvider(store).get_messages(session_id))


async def run(agent, text, session, *, stream):
    """Run *agent*, read its stream if there is one, and return the response."""
    if not stream:
        return await agent.run(text, session=session)
    return await agent.run(text, session=session, stream=True).get_final_response()


@pytest.mark.parametrize("stream", [False, True])
async def test_the_runs_of_a_session_are_one_conversation(store, stream):
    agent = agent_with(SessionHistoryProvider(store))
    for text in ("One", "Two"):
        await run(agent, text, AgentSession(session_id="chat"), stream=stream)

    assert agent.client.said() == ["One", "1 messages", "Two"]
    assert await said(store) == ["One", "1 messages", "Two", "3 messages"]
    assert len((await store.load("chat")).turns) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_all_messages_of_a_run_with_a_tool_are_one_turn_and_come_back_as_they_were(
    store, stream
):
    provider = SessionHistoryProvider(store)
    agent = agent_with(provider, replies=[[call()], ["It is sunny."]], tools=[weather])
    response = await run(agent, "Sunny?", AgentSession(session_id="chat"), stream=stream)

    assert len((await store.load("chat")).turns) == 1
    loaded = await provider.get_messages("chat")
    assert [message.role for message in loaded] == ["user", "assistant", "tool", "assistant"]
    assert [each.to_dict() for each in loaded[1:]] == [each.to_dict() for each in response.messages]

    await run(agent, "And?", AgentSession(session_id="chat"), stream=stream)
    assert len(agent.client.requests[-1]) == 5


@pytest.mark.parametrize("stream", [False, True])
async def test_a_run_whose_model_fails_changes_nothing(store, stream):
    agent = agent_with(SessionHistoryProvider(store), replies=[ConnectionError()])
    with pytest.raises(ConnectionError):
        await run(agent, "Hi", AgentSession(session_id="chat"), stream=stream)
    assert await store.load("chat") == []


async def test_equal_runs_are_stored_as_often_as_they_ran():
    store = InMemorySessionStore()
    agent = agent_with(SessionHistoryProvider(store), replies=[["Yes"]] * 3)
    session = agent.create_session(session_id="chat")
    for _ in range(3):
        await agent.run("Sure?", session=session)
    assert await said(store) == ["Sure?", "Yes"] * 3


async def test_parallel_runs_on_one_agent_session_are_all_stored(store):
    barrier = asyncio.Barrier(3)

    async def answer():
        await barrier.wait()
        return ["Yes"]

    agent = agent_with(SessionHistoryProvider(store), replies=[answer] * 3)
    session = agent.create_session(session_id="chat")
    await asyncio.gather(*(agent.run(text, session=session) for text in "abc"))

    found = await said(store)
    assert sorted(found[::2]) == ["a", "b", "c"]
    assert found[1::2] == ["Yes"] * 3


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_save_carries_the_response_and_a_turn_that_can_be_saved(stream):
    memory = InMemorySessionStore()
    agent = agent_with(SessionHistoryProvider(FailingStore(memory, DISK_FULL)), replies=[["Hello"]])
    with pytest.raises(SaveError, match="disk full") as caught:
        await run(agent, "Hi", AgentSession(session_id="chat"), stream=stream)

    assert caught.value.response.text == "Hello"
    assert await said(memory) == []
    for _ in range(2):
        await memory.append(caught.value.turn)
    assert await said(memory) == ["Hi", "Hello"]


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_stream_whose_save_failed_can_be_saved_again_and_is_stored_once(is_late):
    """The framework saves again if the final response is asked for again."""
    memory = InMemorySessionStore()
    provider = SessionHistoryProvider(FailingStore(memory, DISK_FULL, is_late=is_late))
    stream = agent_with(provider, replies=[["Hel", "lo"]]).run(
        "Hi", session=AgentSession(session_id="chat"), stream=True
    )
    with pytest.raises(SaveError):
        await stream.get_final_response()

    assert (await stream.get_final_response()).text == "Hello"
    assert await said(memory) == ["Hi", "Hello"]


async def test_saving_the_same_run_again_changes_nothing(store):
    """A gate of the framework may hold back a save, and try it again."""
    provider = SessionHistoryProvider(store)
    session = AgentSession(session_id="chat")
    saves = []

    class Gate(ContextProvider):
        async def after_run(self, *, agent, session, context, state):
            saves.append((agent, context))

    agent = agent_with(provider, Gate("gate"))
    await agent.run("Hi", session=session)
    (agent, context) = saves[0]
    for _ in range(2):
        await provider.after_run(agent=agent, session=session, context=context, state={})
    assert await said(store) == ["Hi", "1 messages"]


async def test_a_run_id_that_is_stored_is_refused_before_the_model_is_called(store):
    agent = agent_with(SessionHistoryProvider(store))
    session = with_run_id(AgentSession(session_id="chat"), "request-1")
    await agent.run("Hi", session=session)

    with pytest.raises(TurnExists) as caught:
        await agent.run("Hi", session=with_run_id(session, "request-1"))
    assert caught.value.turn_id == "request-1"
    assert [item["role"] for item in caught.value.items] == ["user", "assistant"]
    assert len(agent.client.requests) == 1
    assert await said(store) == ["Hi", "1 messages"]


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_run_that_is_repeated_with_its_id_after_a_failed_save_is_stored_once(is_late):
    memory = InMemorySessionStore()
    provider = SessionHistoryProvider(FailingStore(memory, DISK_FULL, is_late=is_late))
    agent = agent_with(provider, replies=[["Hello"], ["Hello!"]])
    session = agent.create_session(session_id="chat")
    with pytest.raises(SaveError):
        await agent.run("Hi", session=with_run_id(session, "request-1"))

    if is_late:
        with pytest.raises(TurnExists):
            await agent.run("Hi", session=with_run_id(session, "request-1"))
        assert await said(memory) == ["Hi", "Hello"]
    else:
        await agent.run("Hi", session=with_run_id(session, "request-1"))
        assert await said(memory) == ["Hi", "Hello!"]


async def test_a_run_id_serves_one_run():
    store = InMemorySessionStore()
    agent = agent_with(SessionHistoryProvider(store))
    session = with_run_id(AgentSession(session_id="chat"), "request-1")
    await agent.run("One", session=session)
    await agent.run("Two", session=session)

    first, second = (await store.load("chat")).turns
    assert first.turn_id == "request-1"
    assert second.turn_id != "request-1"
    assert session.state["tower_memory"] == {}


async def test_the_first_of_parallel_runs_on_one_session_has_the_run_id_and_all_are_stored():
    store, barrier = InMemorySessionStore(), asyncio.Barrier(2)

    async def answer():
        await barrier.wait()
        return ["Yes"]

    agent = agent_with(SessionHistoryProvider(store), replies=[answer] * 2)
    session = with_run_id(AgentSession(session_id="chat"), "request-1")
    await asyncio.gather(*(agent.run(text, session=session) for text in "ab"))

    history = await store.load("chat")
    assert len(history) == 4
    assert texts_of(history.turn("request-1")) == ["a", "Yes"]


def texts_of(items):
    return [item["contents"][0]["text"] for item in items]


async def test_the_later_save_of_two_runs_with_one_id_raises_with_the_first_run_and_its_own_reply():
    """Two workers may get the same request at the same time."""
    store, barrier = InMemorySessionStore(), asyncio.Barrier(2)
    replies = ["Yes", "No"]

    async def answer():
        await barrier.wait()
        return [replies.pop()]

    agent = agent_with(SessionHistoryProvider(store), replies=[answer] * 2)
    sessions = [with_run_id(AgentSession(session_id="chat"), "request-1") for _ in range(2)]
    results = await asyncio.gather(
        *(agent.run("Sure?", session=session) for session in sessions), return_exceptions=True
    )
    (refused,) = (each for each in results if isinstance(each, TurnExists))
    (stored,) = (each for each in results if not isinstance(each, TurnExists))
    assert await said(store) == ["Sure?", stored.text] == texts_of(refused.items)
    assert refused.response.text != stored.text


async def test_a_run_id_must_be_a_string():
    agent = agent_with(SessionHistoryProvider(InMemorySessionStore()))
    with pytest.raises(TypeError, match="run_id must be a string, got 7"):
        await agent.run("Hi", session=with_run_id(AgentSession(session_id="chat"), 7))
    assert agent.client.requests == []


@pytest.mark.parametrize("stream", [False, True])
async def test_with_persistence_per_call_each_call_of_the_model_is_a_turn(store, stream):
    agent = agent_with(
        SessionHistoryProvider(store),
        replies=[[call()], ["It is sunny."], ["Yes"]],
        tools=[weather],
        require_per_service_call_history_persistence=True,
    )
    session = with_run_id(AgentSession(session_id="chat"), "request-1")
    await run(agent, "Sunny?", session, stream=stream)
    await run(agent, "Sure?", session, stream=stream)

    history = await store.load("chat")
    roles = [item["role"] for item in history]
    assert roles == ["user", "assistant", "tool", "assistant", "user", "assistant"]
    assert [turn.position for turn in history.turns] == [0, 2, 4]
    assert history.turns[0].turn_id == "request-1"
    assert [len(request) for request in agent.client.requests] == [1, 3, 5]


@pytest.mark.parametrize("change", ["clear", "erase"])
async def test_a_run_does_not_revive_a_session_that_was_removed_meanwhile(store, change):
    async def answer():
        await (store.clear("chat") if change == "clear" else store.erase(session_id="chat"))
        return ["Hello"]

    agent = agent_with(SessionHistoryProvider(store), replies=[["Hi"], answer])
    session = agent.create_session(session_id="chat")
    await agent.run("Hi", session=session)
    with pytest.raises(SessionCleared) as caught:
        await agent.run("Hi", session=session)
    assert caught.value.response.text == "Hello"
    assert await store.load("chat") == []


async def test_an_input_that_json_cannot_hold_is_refused_before_the_model_is_called():
    store = InMemorySessionStore()
    agent = agent_with(SessionHistoryProvider(store))
    message = Message("user", ["Hi"], additional_properties={"score": nan})
    with pytest.raises(UnencodableItemError, match=r"items\[0\].additional_properties.score"):
        await agent.run(message, session=AgentSession(session_id="chat"))
    assert agent.client.requests == []

    unstored = agent_with(SessionHistoryProvider(store, store_inputs=False))
    await unstored.run(message, session=AgentSession(session_id="chat"))
    assert await said(store) == ["1 messages"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_run_that_is_cancelled_during_the_model_call_changes_nothing(store, stream):
    called = asyncio.Event()

    async def answer():
        called.set()
        await anyio.sleep_forever()

    agent = agent_with(SessionHistoryProvider(store), replies=[answer])
    task = asyncio.create_task(run(agent, "Hi", AgentSession(session_id="chat"), stream=stream))
    await called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await said(store) == []


async def test_a_run_whose_scope_is_cancelled_during_the_save_is_stored(sqlite):
    class Cancelling(PassingStore):
        async def append(self, turn):
            scope.cancel()
            return await super().append(turn)

    agent = agent_with(SessionHistoryProvider(Cancelling(sqlite)))
    with anyio.CancelScope() as scope:
        await agent.run("Hi", session=AgentSession(session_id="chat"))
    assert scope.cancel_called
    assert await said(sqlite) == ["Hi", "1 messages"]


@pytest.mark.parametrize("cancel", [by_scope, natively], ids=lambda cancel: cancel.__name__)
async def test_a_run_that_is_cancelled_anywhere_is_stored_wholly_or_not_at_all(sqlite, cancel):
    agent = agent_with(SessionHistoryProvider(sqlite))
    for nth in range(1, 100):
        session = AgentSession(session_id=f"chat {nth}")
        response, is_cancelled, is_reached = await cancel(agent.run("Hi", session=session), nth)
        found = await said(sqlite, session.session_id)
        assert found in ([], ["Hi", "1 messages"])
        assert found or response is None
        if not is_reached:
            break
    assert nth > 2
    assert not is_cancelled


async def test_a_stream_that_is_cancelled_between_its_chunks_is_not_stored(store):
    came = asyncio.Event()
    agent = agent_with(SessionHistoryProvider(store), replies=[["Hel", anyio.sleep_forever]])

    async def read():
        async for _ in agent.run("Hi", session=AgentSession(session_id="chat"), stream=True):
            came.set()

    task = asyncio.create_task(read())
    await came.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await said(store) == []


async def test_the_framework_stores_the_received_part_of_a_stream_that_is_closed_early(store):
    agent = agent_with(SessionHistoryProvider(store), replies=[["Hel", "lo"]])
    session = AgentSession(session_id="chat")
    async with agent.run("Hi", session=session, stream=True) as stream:
        async for _ in stream:
            break
    assert await said(store) == ["Hi", "Hel"]


async def test_a_window_bounds_the_history_and_keeps_calls_with_their_results():
    store = InMemorySessionStore()
    provider = SessionHistoryProvider(store, window=LastItems(3))
    replies = [["Hello"], [call()], ["Sunny"], ["Yes"], ["Bye"]]
    agent = agent_with(provider, replies=replies, tools=[weather])
    session = agent.create_session(session_id="chat")
    for text in ("Hi", "Weather?", "Sure?", "Bye"):
        await agent.run(text, session=session)

    assert [len(request) for request in agent.client.requests] == [1, 3, 5, 1, 3]
    assert agent.client.said() == ["Sure?", "Yes", "Bye"]
    assert len(await store.load("chat")) == 10


async def test_a_window_reads_the_store_no_further_than_it_needs():
    store = InMemorySessionStore()
    agent = agent_with(SessionHistoryProvider(store))
    session = agent.create_session(session_id="chat")
    for number in range(100):
        await agent.run(str(number), session=session)

    limits = []

    class Recording(PassingStore):
        async def load(self, session_id, *, limit=None, before=None):
            limits.append(limit)
            return await super().load(session_id, limit=limit, before=before)

    provider = SessionHistoryProvider(Recording(store), window=LastTurns(2))
    assert len(await provider.get_messages("chat")) == 4
    assert limits == [64]


async def test_an_answer_to_a_request_for_approval_starts_no_exchange():
    store = InMemorySessionStore()

    @tool(approval_mode="always_require")
    def pay() -> str:
        return "paid"

    provider = SessionHistoryProvider(store, window=LastTurns(1))
    replies = [["Hello"], [call(name="pay")], ["Done"]]
    agent = agent_with(provider, replies=replies, tools=[pay])
    session = agent.create_session(session_id="chat")
    await agent.run("Hi", session=session)
    asking = await agent.run("Pay!", session=session)
    (request,) = asking.user_input_requests

    answering = Content.from_function_approval_response(
        approved=True, id=request.id, function_call=request.function_call
    )
    done = await agent.run(answering, session=session)
    assert done.text == "Done"
    assert agent.client.said()[0] == "Pay!"
    assert [message.role for message in agent.client.requests[-1]][-1] == "tool"


async def test_a_summary_may_stand_before_the_newest_messages():
    store = InMemorySessionStore()

    async def summarise(items):
        return f"summary of {len(items)}"

    window = Summarised(
        summarise,
        store=store,
        keep=LastTurns(1),
        every=1,
        item=lambda text: Message("user", [text]).to_dict(),
    )
    agent = agent_with(SessionHistoryProvider(store, window=window))
    session = agent.create_session(session_id="chat")
    for text in ("One", "Two", "Three"):
        await agent.run(text, session=session)
    assert agent.client.said() == ["summary of 2", "Two", "3 messages", "Three"]


async def test_a_compaction_provider_shortens_the_messages_of_the_model_and_not_those_of_the_store(
    store,
):
    compaction = CompactionProvider(before_strategy=SlidingWindowStrategy(keep_last_groups=2))
    agent = agent_with(SessionHistoryProvider(store), compaction)
    session = agent.create_session(session_id="chat")
    for text in ("One", "Two", "Three"):
        await agent.run(text, session=session)

    assert agent.client.said() == ["Two", "3 messages", "Three"]
    assert len(await store.load("chat")) == 6


async def test_agents_with_one_session_id_share_the_conversation(store):
    first = agent_with(SessionHistoryProvider(store), name="first")
    second = agent_with(SessionHistoryProvider(store), name="second")
    await first.run("One", session=AgentSession(session_id="chat"))
    await second.run("Two", session=AgentSession(session_id="chat"))

    assert second.client.said() == ["One", "1 messages", "Two"]
    authors = [message.author_name for message in second.client.requests[0]]
    assert authors == [None, "first", None]


async def test_two_providers_of_an_agent_store_in_scopes_of_their_own():
    store = InMemorySessionStore()
    chat = SessionHistoryProvider(ScopedStore(store, "chat"))
    audit = SessionHistoryProvider(ScopedStore(store, "audit"), "audit", load_messages=False)
    agent = agent_with(chat, audit)
    session = agent.create_session(session_id="s")
    for number in range(2):
        with_run_id(session, f"request-{number}")
        with_run_id(session, f"request-{number}", "audit")
        await agent.run("Hi", session=session)

    assert len(agent.client.requests[-1]) == 3
    for scope in ("chat", "audit"):
        history = await ScopedStore(store, scope).load("s")
        assert [turn.turn_id for turn in history.turns] == ["request-0", "request-1"]
        assert len(history) == 4


async def test_the_options_of_the_base_class_choose_what_is_stored():
    store = InMemorySessionStore()

    class Facts(ContextProvider):
        async def before_run(self, *, agent, session, context, state):
            context.extend_messages(self, [Message("user", [f"a fact of {self.source_id}"])])

    def scoped(name, **options):
        return SessionHistoryProvider(
            ScopedStore(store, name), name, load_messages=False, **options
        )

    agent = agent_with(
        SessionHistoryProvider(store),
        Facts("a"),
        Facts("b"),
        scoped("inputs", store_outputs=False),
        scoped("outputs", store_inputs=False),
        scoped("context", store_context_messages=True),
        scoped("some", store_context_messages=True, store_context_from={"b"}),
    )
    await agent.run("Hi", session=AgentSession(session_id="chat"))

    facts = ["a fact of a", "a fact of b"]
    found = {name: await said(ScopedStore(store, name)) for name in ("inputs", "outputs", "some")}
    assert found == {
        "inputs": ["Hi"],
        "outputs": ["3 messages"],
        "some": [facts[1], "Hi", "3 messages"],
    }
    assert await said(ScopedStore(store, "context")) == [*facts, "Hi", "3 messages"]


TALK = """
import sys, anyio
from agent_framework import AgentSession
from helpers.agents import agent_with, snapshot_store
from helpers.stores import open_store
from tower_memory.integrations.agent_framework import SessionHistoryProvider

async def talk(address, name, start):
    async with open_store(address) as store:
        agent, snapshots = agent_with(SessionHistoryProvider(store)), snapshot_store(store)
        start()
        for number in range(20):
            session = AgentSession(session_id="chat")
            await agent.run(f"{name} {number}", session=session)
            await snapshots.set("chat", session)
"""
exec(TALK)


async def test_two_processes_on_one_session_lose_and_double_nothing(path):
    program = TALK + "print('ready', flush=True); anyio.run(talk, sys.argv[1], 'a', input)"

    with start_python(program, path) as other:
        assert other.stdout.readline() == "ready\n"

        def start():
            other.stdin.write("go\n")
            other.stdin.flush()

        await talk(path, "b", start)  # noqa: F821 - of TALK
    assert other.returncode == 0

    async with SqliteSessionStore(path) as store:
        asked = (await said(store))[::2]
        for name in "ab":
            mine = [text for text in asked if text.startswith(name)]
            assert mine == [f"{name} {number}" for number in range(20)]
        assert len(asked) == 40
        assert len(await ScopedStore(store, "agent-framework-snapshots").load("chat")) == 1


async def test_a_run_is_found_by_its_words_and_stands_in_postgres(tables_url):
    async with PostgresSessionStore(tables_url) as postgres:
        store = ScopedStore(postgres, "anna")
        provider = SessionHistoryProvider(store)
        agent = agent_with(provider, replies=[[call()], ["Take a hat."]], tools=[weather])
        session = with_run_id(AgentSession(session_id="chat"), "request-1")
        await agent.run("Hi", session=session)
        with pytest.raises(TurnExists):
            await agent.run("Hi", session=with_run_id(session, "request-1"))

        for word in ("hi", "hat", "sunny"):
            (hit,) = await store.search(word)
            assert (hit.session_id, hit.turn_id) == ("chat", "request-1")
        assert not await store.search("call_1")
