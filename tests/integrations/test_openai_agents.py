"""``SQLiteSession`` of openai-agents over this library's stores.

The framework needs asyncio. The session itself is tested on trio as well.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace

import agents
import pytest
from agents.memory import OpenAIResponsesCompactionSession
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from helpers.messages import assistant, user
from helpers.passing_store import Meanwhile
from helpers.processes import KILL_CHILDREN, run_python
from helpers.runtimes import on_asyncio
from helpers.sqlite import query
from tower_memory import (
    CorruptSessionError,
    InMemorySessionStore,
    ScopedStore,
    SessionError,
    SessionHandle,
    UnencodableItemError,
)
from tower_memory.integrations.openai_agents import SQLiteSession

ITEMS = [user("a"), assistant("b"), user("c")]
SUMMARY = {"type": "compaction", "id": "cmp", "encrypted_content": "summary"}

agents.set_tracing_disabled(disabled=True)


class Scripted(agents.Model):
    """A model that gives the next of its *outputs*, and remembers its inputs."""

    def __init__(self, *outputs):
        self.outputs = list(outputs)
        self.inputs = []

    def reply(self, given):
        self.inputs.append(list(given))
        return [self.outputs.pop(0)]

    async def get_response(self, system_instructions, input, *args, **kwargs):  # noqa: A002
        return agents.ModelResponse(self.reply(input), usage=agents.Usage(), response_id="r")

    async def stream_response(self, system_instructions, input, *args, **kwargs):  # noqa: A002
        response = Response(
            id="r",
            created_at=0,
            model="m",
            object="response",
            output=self.reply(input),
            parallel_tool_calls=False,
            tool_choice="auto",
            tools=[],
        )
        yield ResponseCompletedEvent(
            response=response, sequence_number=0, type="response.completed"
        )


def said(text):
    content = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(
        id="m", type="message", role="assistant", status="completed", content=[content]
    )


async def plain(agent, text, session):
    return (await agents.Runner.run(agent, text, session=session)).final_output


async def streamed(agent, text, session):
    result = agents.Runner.run_streamed(agent, text, session=session)
    async for _ in result.stream_events():
        pass
    return result.final_output


both_runs = pytest.mark.parametrize("run", [plain, streamed])


def contents(items):
    """Return the text of each message, or the type of any other item."""
    found = []
    for item in items:
        content = item.get("content", item.get("type"))
        found.append(content if isinstance(content, str) else content[0]["text"])
    return found


def store_threads():
    return [each for each in threading.enumerate() if each.name.startswith("tower-memory")]


def assert_no_store_is_open():
    """Wait until no store is open: a thread ends soon after the close of its store returns."""
    for thread in store_threads():
        thread.join(60)
    assert store_threads() == []


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.db"


@pytest.fixture(params=["in memory", "file"])
def session(request, path):
    with closing(SQLiteSession("s", ":memory:" if request.param == "in memory" else path)) as it:
        yield it


# The framework


def test_the_constructor_is_that_of_the_framework():
    def parameters(kind):
        found = inspect.signature(kind).parameters.values()
        return [(each.name, each.kind, each.default) for each in found]

    assert parameters(SQLiteSession) == parameters(agents.SQLiteSession)
    for name in parameters(agents.SQLiteSession):
        with closing(SQLiteSession("s")) as ours, closing(agents.SQLiteSession("s")) as theirs:
            assert getattr(ours, name[0]) == getattr(theirs, name[0])


def test_each_method_of_the_framework_takes_its_parameters_and_the_context_of_the_run(session):
    assert isinstance(session, agents.memory.Session)
    for name in ("get_items", "add_items", "pop_item", "clear_session"):
        theirs = inspect.signature(getattr(agents.SQLiteSession, name)).parameters
        ours = dict(inspect.signature(getattr(SQLiteSession, name)).parameters)
        assert ours.pop("wrapper").kind is inspect.Parameter.KEYWORD_ONLY
        assert list(ours) == list(theirs)


@on_asyncio
@both_runs
async def test_an_agent_remembers_its_conversation_in_a_new_session_on_the_file(path, run):
    model = Scripted(said("Noted."), said("Teal."))
    agent = agents.Agent(name="a", model=model)

    with closing(SQLiteSession("s", path)) as session:
        assert await run(agent, "I like teal.", session) == "Noted."
    with closing(SQLiteSession("s", path)) as session:
        assert await run(agent, "What do I like?", session) == "Teal."
        items = await session.get_items()

    assert contents(model.inputs[1]) == ["I like teal.", "Noted.", "What do I like?"]
    assert contents(items) == ["I like teal.", "Noted.", "What do I like?", "Teal."]


@on_asyncio
@both_runs
async def test_an_agent_remembers_its_tool_calls_with_their_results(session, run):
    @agents.function_tool
    def weather() -> str:
        return "sunny"

    call = ResponseFunctionToolCall(
        type="function_call", call_id="call_1", name="weather", arguments="{}"
    )
    model = Scripted(call, said("It is sunny."), said("Yes."))
    agent = agents.Agent(name="a", model=model, tools=[weather])

    await run(agent, "How is it?", session)
    await run(agent, "Sure?", session)
    assert contents(await session.get_items()) == [
        *("How is it?", "function_call", "function_call_output", "It is sunny."),
        *("Sure?", "Yes."),
    ]
    assert model.inputs[2][:4] == (await session.get_items())[:4]


@on_asyncio
@both_runs
async def test_an_agent_remembers_through_a_handle_over_any_store(run):
    store = ScopedStore(InMemorySessionStore(), "tenant")
    model = Scripted(said("1"), said("2"))
    agent = agents.Agent(name="a", model=model)
    for text in ("a", "b"):
        await run(agent, text, SessionHandle(store, "s"))
    assert contents(model.inputs[1]) == ["a", "1", "b"]
    assert contents(await store.load("s")) == ["a", "1", "b", "2"]


@on_asyncio
async def test_the_limit_of_the_settings_applies_to_a_run_and_the_run_may_change_it(session):
    model = Scripted(*map(said, "1234"))
    agent = agents.Agent(name="a", model=model)
    session.session_settings = agents.SessionSettings(limit=1)
    for text in ("a", "b", "c"):
        await plain(agent, text, session)
    assert contents(model.inputs[2]) == ["2", "c"]
    settings = agents.RunConfig(session_settings=agents.SessionSettings(limit=3))
    await agents.Runner.run(agent, "d", session=session, run_config=settings)
    assert contents(model.inputs[3]) == ["2", "c", "3", "d"]


# Files of the framework


async def write_with_the_framework(path, session_id, items):
    with closing(agents.SQLiteSession(session_id, path)) as session:
        await session.add_items(items)


@on_asyncio
async def test_a_file_of_the_framework_is_taken_over_and_continued(path):
    for name in ("one", "two"):
        await write_with_the_framework(path, name, [user(name), *ITEMS, user("é\n😀")])
    rows = query(path, "SELECT * FROM agent_messages")

    for name in ("one", "two"):
        with closing(SQLiteSession(name, path)) as session:
            assert await session.get_items() == [user(name), *ITEMS, user("é\n😀")]
            assert await session.pop_item() == user("é\n😀")
            await session.add_items([user("more")])
            assert await session.get_items(2) == [ITEMS[2], user("more")]

    assert query(path, "SELECT * FROM agent_messages") == rows


@on_asyncio
async def test_a_file_is_taken_over_by_a_path_through_a_folder_that_does_not_exist(path):
    roundabout = path.parent / "missing" / ".." / path.name
    await write_with_the_framework(roundabout, "s", ITEMS)
    with closing(SQLiteSession("s", roundabout)) as session:
        assert await session.get_items() == ITEMS


@on_asyncio
async def test_a_file_that_the_framework_makes_later_is_taken_over_by_the_next_session(path):
    with closing(SQLiteSession("s", path)) as early:
        await write_with_the_framework(path, "s", ITEMS)
        with pytest.raises(SessionError, match="open it with the SQLiteSession of tower_memory"):
            await early.get_items()
        with closing(SQLiteSession("s", path)) as session:
            assert await session.get_items() == ITEMS
        assert await early.get_items() == ITEMS


@on_asyncio
async def test_the_framework_cannot_add_items_to_a_file_that_was_taken_over(path):
    """Otherwise a process that still uses its class would add items that no other process sees."""
    with closing(agents.SQLiteSession("s", path)) as theirs:
        await theirs.add_items(ITEMS)
        with closing(SQLiteSession("s", path)) as ours:
            with pytest.raises(sqlite3.IntegrityError, match="use the SQLiteSession of tower_mem"):
                await theirs.add_items(ITEMS)
            assert await ours.get_items() == ITEMS


@pytest.mark.parametrize("parameter", ["sessions_table", "messages_table"])
def test_another_table_name_is_refused_with_the_remedy(parameter, path):
    with pytest.raises(ValueError, match=f"{parameter} must be 'agent_.*', got 'mine': .*db_path"):
        SQLiteSession("s", path, **{parameter: "mine"})
    with closing(SQLiteSession("s", path, "agent_sessions", "agent_messages")):
        assert not path.exists()  # it opens at the first use


@on_asyncio
async def test_a_file_with_other_table_names_is_taken_over_after_they_are_renamed(path):
    with closing(agents.SQLiteSession("s", path, "my_sessions", "my_messages")) as theirs:
        await theirs.add_items(ITEMS)
    with pytest.raises(SessionError, match="my_mes"):
        SQLiteSession("s", path)

    query(path, "ALTER TABLE my_sessions RENAME TO agent_sessions")
    query(path, "ALTER TABLE my_messages RENAME TO agent_messages")
    with closing(SQLiteSession("s", path)) as session:
        assert await session.get_items() == ITEMS


async def test_a_row_that_cannot_be_read_is_reported_and_stays(path):
    with closing(SQLiteSession("s", path)) as session:
        await session.add_items([ITEMS[0]])
        await session.add_items([ITEMS[1]])
    query(path, "UPDATE memory_turn SET items = '[{]' WHERE first = 1")
    with closing(SQLiteSession("s", path)) as session:
        for read in (session.get_items, session.pop_item):
            with pytest.raises(CorruptSessionError):
                await read()
    assert query(path, "SELECT count(*) FROM memory_turn") == [(2,)]


# The session


async def test_a_session_adds_gets_pops_and_clears(session):
    context = object()
    await session.add_items(ITEMS[:2], wrapper=context)
    await session.add_items(ITEMS[2:])
    await session.add_items([])
    assert await session.get_items(wrapper=context) == ITEMS
    assert await session.get_items(2) == await session.get_items(limit=2) == ITEMS[1:]
    assert await session.get_items(0) == []
    assert await session.pop_item(wrapper=context) == ITEMS[2]
    await session.clear_session(wrapper=context)
    assert await session.get_items() == []
    assert await session.pop_item() is None


async def test_an_item_that_json_cannot_hold_is_refused_and_no_item_of_the_call_is_saved(session):
    with pytest.raises(UnencodableItemError) as caught:
        await session.add_items([user("a"), user((1, 2))])
    assert isinstance(caught.value, ValueError)
    assert await session.get_items() == []


def test_the_settings_may_be_an_object_a_dictionary_or_none():
    settings = agents.SessionSettings(limit=2)
    for given, expected in (
        (settings, settings),
        ({"limit": 2}, settings),
        ({}, agents.SessionSettings()),
        (None, agents.SessionSettings()),
    ):
        with closing(SQLiteSession("s", session_settings=given)) as session:
            assert session.session_settings == expected
            assert isinstance(session.session_settings, agents.SessionSettings)
    for bad in ({"limits": 2}, 3):
        with pytest.raises(TypeError):
            SQLiteSession("s", session_settings=bad)


@pytest.mark.parametrize(("bad", "error"), [("", ValueError), (None, TypeError)])
def test_a_bad_session_id_or_path_is_refused_by_name(bad, error):
    with pytest.raises(error, match="session_id must"):
        SQLiteSession(bad)
    with pytest.raises(error, match="path must"):
        SQLiteSession("s", bad)


# Threads, event loops and closing


def test_any_thread_and_any_event_loop_may_use_a_session_at_the_same_time(session, anyio_backend):
    """The items of one call stay together, and no item is lost."""

    def add(number):
        import anyio

        batch = [user(f"{number} {place}") for place in range(3)]
        for _ in range(5):
            anyio.run(session.add_items, batch, backend=anyio_backend)
        return batch

    with ThreadPoolExecutor(8) as threads:
        batches = list(threads.map(add, range(8)))

    items = asyncio.run(session.get_items())
    found = [items[start : start + 3] for start in range(0, len(items), 3)]
    assert sorted(map(str, found)) == sorted(str(batch) for batch in batches for _ in range(5))


@on_asyncio
async def test_an_agent_runs_on_many_threads_with_a_session_for_each_run(path):
    """A web server does this. The sessions on a file share the threads of one store."""

    def serve(number):
        agent = agents.Agent(name="a", model=Scripted(said("1"), said("2")))
        with closing(SQLiteSession(f"user {number}", path)) as session:
            for text in ("a", "b"):
                asyncio.run(plain(agent, text, session))
            return contents(asyncio.run(session.get_items())), len(store_threads())

    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(serve, number) for number in range(24)]
        served = [await asyncio.wrap_future(future) for future in futures]

    assert [found for found, _ in served] == [["a", "1", "b", "2"]] * 24
    assert max(count for _, count in served) <= 12  # of a store, and of those that are closing
    assert_no_store_is_open()


async def test_a_closed_session_raises_and_the_others_on_its_file_go_on(path):
    one, two, link = (SQLiteSession("s", path) for _ in range(3))
    await one.add_items(ITEMS)
    threads = store_threads()
    one.close()
    one.close()
    assert store_threads() == threads
    for use in (one.get_items, one.pop_item, one.clear_session, lambda: one.add_items([])):
        with pytest.raises(RuntimeError, match="SQLiteSession is closed: make another one"):
            await use()
    link.close()  # it was never used
    assert await two.get_items() == ITEMS
    two.close()
    assert_no_store_is_open()
    with closing(SQLiteSession("s", path)) as again:
        assert await again.get_items() == ITEMS


async def test_a_private_session_in_memory_is_lost_when_it_is_closed():
    with closing(SQLiteSession("s")) as one, closing(SQLiteSession("s")) as two:
        await one.add_items(ITEMS)
        assert await two.get_items() == []
    with closing(SQLiteSession("s")) as again:
        assert await again.get_items() == []


async def test_sessions_in_memory_share_one_thread_which_ends_with_the_last_one():
    before = threading.active_count()
    sessions = [SQLiteSession("s") for _ in range(20)]
    for number, session in enumerate(sessions):
        await session.add_items([user(str(number))])
    assert threading.active_count() == before + 1

    last = sessions.pop()
    for session in sessions:
        session.close()
    assert await last.pop_item() == user("19")
    assert repr(last) == "SQLiteSession(InMemorySessionStore(sessions=1), 's')"
    await last.clear_session()
    last.close()
    assert threading.active_count() == before


async def test_a_session_that_is_garbage_collected_keeps_no_file_open(path):
    one, two = (SQLiteSession("s", path) for _ in range(2))
    await one.add_items(ITEMS)
    del one
    gc.collect()
    assert await two.get_items() == ITEMS
    two.close()
    assert_no_store_is_open()


# Compaction


class Client:
    """A client whose compaction returns *SUMMARY*, after it has awaited *meanwhile()*."""

    def __init__(self, meanwhile=None):
        self.responses = self
        self.meanwhile = meanwhile
        self.inputs = []

    async def compact(self, *, model, input):  # noqa: A002
        self.inputs.append(input)
        if self.meanwhile is not None:
            await self.meanwhile()
        return SimpleNamespace(output=[SUMMARY], usage=None)


def compacting(session, client, *, after=lambda _: True):
    return OpenAIResponsesCompactionSession(
        "s",
        session,
        client=client,
        compaction_mode="input",
        should_trigger_compaction=after,
    )


@on_asyncio
@both_runs
async def test_an_automatic_compaction_replaces_the_items_that_the_model_has_summarised(
    session, run
):
    client = Client()
    agent = agents.Agent(name="a", model=Scripted(said("1"), said("2")))
    await session.add_items([user("old"), assistant("reply")])
    session.session_settings = agents.SessionSettings(limit=2)

    await run(agent, "a", compacting(session, client))
    assert contents(client.inputs[0]) == ["old", "reply", "a", "1"]
    assert await session.get_items(100) == [SUMMARY]

    session.session_settings = agents.SessionSettings(limit=0)
    await run(agent, "b", compacting(session, client))
    assert contents(client.inputs[1]) == ["b", "2"]
    assert await session.get_items(100) == [SUMMARY, SUMMARY]


@on_asyncio
@both_runs
async def test_an_item_that_is_added_during_a_compaction_is_never_lost(path, run):
    """Another process or session writes while the summary is made; the history then stays."""
    with closing(SQLiteSession("s", path)) as session, closing(SQLiteSession("s", path)) as other:
        client = Client(lambda: other.add_items([user("meanwhile")]))
        agent = agents.Agent(name="a", model=Scripted(said("1"), said("2")))
        await run(agent, "a", compacting(session, client))
        assert contents(await session.get_items()) == ["a", "1", "meanwhile"]

        client.meanwhile = None
        await run(agent, "b", compacting(session, client))
        assert await session.get_items() == [SUMMARY]


@on_asyncio
async def test_compactions_and_appends_at_the_same_time_lose_no_item(path):
    """Each appended item is there, or was in the input of a compaction that took place."""
    with closing(SQLiteSession("s", path)) as session, closing(SQLiteSession("s", path)) as other:
        texts = [str(number) for number in range(40)]

        async def append():
            for text in texts:
                await other.add_items([user(text)])

        summarised = []

        async def compact():
            while not summarised or appending.done() is False:
                snapshot = await session._get_compaction_snapshot(100)
                start = max(0, len(snapshot.items) - 3)
                if await snapshot.replace_suffix(start, [SUMMARY]):
                    summarised.extend(snapshot.items[start:])

        appending = asyncio.create_task(append())
        await asyncio.gather(appending, compact())
        left = await session.get_items()
        found = [item["content"] for item in [*summarised, *left] if item != SUMMARY]
        assert sorted(found, key=int) == texts


async def test_a_snapshot_replaces_nothing_if_it_has_no_items_from_there_on(session):
    await session.add_items(ITEMS)
    snapshot = await session._get_compaction_snapshot(2)
    assert (snapshot.items, snapshot.complete) == (ITEMS[1:], False)
    assert (await session._get_compaction_snapshot(3)).complete is True
    assert await snapshot.replace_suffix(2, [SUMMARY]) is False
    assert await snapshot.replace_suffix(1, [SUMMARY]) is True
    assert await session.get_items() == [*ITEMS[:2], SUMMARY]
    assert await snapshot.replace_suffix(1, [SUMMARY]) is False


async def test_expired_items_in_front_are_removed_in_the_commit_of_the_compaction(session):
    """Encrypted sessions ask for it. An expired item behind another item stays."""
    expired = user("expired")
    older = [user("kept"), expired]
    await session.add_items([expired, expired])
    await session.add_items([*older, *ITEMS])

    for front in (2, 0):  # nothing in front has expired the second time
        snapshot = await session._get_compaction_snapshot(
            3, prune_prefix=lambda item: item == expired
        )
        assert len(await session.get_items()) == front + 5
        assert await snapshot.replace_suffix(1, ITEMS[1:]) is True
        assert await session.get_items() == [*older, *ITEMS]

    await session.add_items([user("newer")])
    assert await snapshot.replace_suffix(1, [SUMMARY]) is False
    assert await session.get_items() == [*older, *ITEMS, user("newer")]


async def test_a_subclass_which_may_change_items_is_not_compacted_behind_its_back(path):
    class Mine(SQLiteSession):
        pass

    with closing(Mine("s", path)) as session:
        assert await session._get_compaction_snapshot(2) is None
        assert await session._atomic_replace_items([SUMMARY]) is False
        assert await session.get_items() == []


@on_asyncio
async def test_a_manual_compaction_replaces_the_history_in_one_commit(path):
    """A reader of the file never finds it empty."""
    with closing(SQLiteSession("s", path)) as session:
        await session.add_items(ITEMS)
        await compacting(session, Client()).run_compaction({"force": True})
        assert await session.get_items() == [SUMMARY]
    # A session that was cleared would say so.
    assert query(path, "SELECT cleared FROM memory_head") == [(0,)]


@on_asyncio
async def test_a_manual_compaction_overwrites_items_that_were_added_before_its_commit(path):
    """The framework documents this of manual compactions. Here it is still one commit."""
    with closing(SQLiteSession("s", path)) as session, closing(SQLiteSession("s", path)) as other:
        await session.add_items(ITEMS)
        session._store = Meanwhile(session._store, lambda: other.add_items([user("meanwhile")]))
        await compacting(session, Client()).run_compaction({"force": True})
        assert await session.get_items() == [SUMMARY]
    assert query(path, "SELECT cleared FROM memory_head") == [(0,)]


@on_asyncio
@both_runs
async def test_a_run_that_is_cancelled_during_a_compaction_leaves_a_whole_history(session, run):
    async def cancel():
        running.cancel()

    agent = agents.Agent(name="a", model=Scripted(said("1"), said("2")))
    running = asyncio.create_task(run(agent, "a", compacting(session, Client(cancel))))
    with pytest.raises(asyncio.CancelledError):
        await running

    items = await session.get_items()
    assert items == [SUMMARY] or contents(items) == ["a", "1"]
    await run(agent, "b", compacting(session, Client()))
    # The framework's task of a streamed run may go on for a moment, and make a summary of its own.
    assert await session.get_items() in ([SUMMARY], [SUMMARY, SUMMARY])


KILLED = (
    KILL_CHILDREN
    + """
import asyncio, sys
from types import SimpleNamespace
from agents.memory import OpenAIResponsesCompactionSession
from tower_memory.integrations.openai_agents import SQLiteSession

class Client:
    def __init__(self):
        self.responses = self
    async def compact(self, **_):
        summary = {"type": "compaction", "id": "cmp", "encrypted_content": "x"}
        return SimpleNamespace(output=[summary], usage=None)

session = SQLiteSession("s", sys.argv[1])  # before the forks
if os.fork() == 0:
    asyncio.run(session.add_items([{"role": "user", "content": "child"}] * 2))
    session.close()
    os._exit(0)
assert os.wait()[1] == 0

def run(name, report):
    async def main():
        compacting = OpenAIResponsesCompactionSession(
            "s", session, client=Client(), compaction_mode="input"
        )
        while True:
            report(str(len(await session.get_items())))
            await session.add_items([{"role": "user", "content": name}] * 2)
            report("added")
            await compacting.run_compaction({"force": True})
    asyncio.run(main())

kill_children(run, 12, 1, 8)
"""
)


def test_a_process_that_is_killed_during_compactions_leaves_a_whole_history(path):
    """After each kill, the history is a summary and pairs of messages: never empty, never half."""
    session = SQLiteSession("s", path)
    asyncio.run(session.add_items([SUMMARY]))
    session.close()
    done = run_python(KILLED, path)
    assert done.stderr == ""
    counts = [int(said) for said in json.loads(done.stdout) if said != "added"]
    assert len(counts) >= 12
    assert counts[0] == 3  # the first child, which was not killed, has added its items
    assert all(count % 2 == 1 for count in counts)
