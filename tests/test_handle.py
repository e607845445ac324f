"""The handle of one session."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from helpers.messages import user
from helpers.processes import run_python, unmeasured
from tower_memory import (
    InMemorySessionStore,
    Message,
    MessageItem,
    Role,
    RunItem,
    ScopedStore,
    SessionHandle,
    SqliteSession,
    SqliteSessionStore,
    ToolCallItem,
)

ITEMS = [user(text) for text in "abc"]


@pytest.fixture(params=["in memory", "file", "of a store", "of any store"])
async def session(request, tmp_path):
    match request.param:
        case "in memory":
            async with SqliteSession.in_memory("user_123") as session:
                yield session
        case "file":
            async with SqliteSession("user_123", tmp_path / "a.db") as session:
                yield session
        case "of a store":
            async with SqliteSessionStore(tmp_path / "a.db") as store:
                yield store.session("user_123")
        case _:
            yield SessionHandle(ScopedStore(InMemorySessionStore(), "tenant"), "user_123")


async def test_a_handle_adds_gets_pops_and_clears(session):
    await session.add_items(ITEMS[:2])
    await session.add_items(ITEMS[2:])
    assert await session.get_items() == ITEMS
    assert await session.get_items(2) == await session.get_items(limit=2) == ITEMS[1:]
    assert await session.pop_item() == ITEMS[2]
    await session.clear_session()
    assert await session.get_items() == []
    assert await session.pop_item() is None


async def test_each_method_of_the_framework_takes_the_context_of_a_run(session):
    context = object()
    await session.add_items(ITEMS, wrapper=context)
    assert await session.pop_item(wrapper=context) == ITEMS[2]
    assert await session.get_items(1, wrapper=context) == ITEMS[1:2]
    await session.clear_session(wrapper=context)
    assert await session.get_items() == []


async def test_the_limit_of_the_session_settings_applies_if_no_limit_is_given(session):
    class Settings:
        limit = 1

    await session.add_items(ITEMS)
    for settings in (Settings(), {"limit": 1}):
        session.session_settings = settings
        assert await session.get_items() == ITEMS[2:]
        assert await session.get_items(2) == ITEMS[1:]
    session.session_settings = {}
    assert await session.get_items() == ITEMS


async def test_the_messages_of_a_session_are_found_among_its_newest_items(session):
    call = ToolCallItem("call_1", "f", {}, datetime.now(UTC))
    await session.add_items([*ITEMS, call])

    assert [message.role for message in await session.get_messages()] == ["user"] * 3 + [
        "assistant"
    ]
    assert await session.get_messages(2) == [
        Message("user", "c"),
        Message(
            "assistant",
            tool_calls=[
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "f", "arguments": "{}"},
                }
            ],
        ),
    ]


async def test_items_may_be_typed(tmp_path):
    item = MessageItem("msg_1", Role.USER, "Hello", datetime.now(UTC))
    async with SqliteSession("s", tmp_path / "a.db", item_type=RunItem) as session:
        await session.add_items([item])
        assert await session.get_items() == [item]
    async with SqliteSession.in_memory("s", item_type=RunItem) as session:
        await session.add_items(iter([item]))
        assert await session.pop_item() == item


async def test_handles_on_one_file_share_a_store_and_close_independently(tmp_path):
    one, two = (SqliteSession("s", tmp_path / "a.db") for _ in range(2))
    await one.add_items(ITEMS)
    assert await two.get_items() == ITEMS
    await one.aclose()
    await one.aclose()
    assert await two.get_items() == ITEMS
    assert await one.get_items() == ITEMS  # the store opens again
    await one.aclose()
    await two.aclose()


async def test_closing_a_handle_leaves_the_store_it_came_from_open(sqlite):
    async with sqlite.session("s") as session:
        await session.add_items(ITEMS)
    assert await sqlite.load("s") == ITEMS
    assert repr(session) == f"SqliteSession('s', {sqlite!r})"


@pytest.mark.parametrize("one", [ITEMS[0], "text", b"bytes", {1, 2}, None])
async def test_a_single_item_instead_of_a_sequence_is_refused(session, one):
    with pytest.raises(TypeError, match="items must be a sequence of items"):
        await session.add_items(one)


@pytest.mark.parametrize(("bad", "error"), [("", ValueError), (None, TypeError)])
def test_a_bad_session_id_is_refused_by_name(bad, error):
    with pytest.raises(error, match="session_id must"):
        SqliteSession(bad, "a.db")
    with pytest.raises(error, match="session_id must"):
        SqliteSessionStore("a.db").session(bad)


@pytest.mark.parametrize(("bad", "error"), [("", ValueError), (None, TypeError)])
def test_a_handle_refuses_a_bad_session_id_and_a_value_that_is_no_store(bad, error):
    with pytest.raises(error, match="session_id must"):
        SessionHandle(InMemorySessionStore(), bad)
    with pytest.raises(TypeError, match="store must have load, append, pop and clear"):
        SessionHandle("user_123", "a.db")
    handle = SessionHandle(InMemorySessionStore(), "user_123")
    assert repr(handle) == "SessionHandle(InMemorySessionStore(sessions=0), 'user_123')"


@pytest.mark.parametrize("name", ["chat.db", "data/Chat.DB", "chat.sqlite", ".old/chat.SQLITE3"])
def test_a_session_id_and_a_path_that_are_swapped_are_refused(name, tmp_path, monkeypatch):
    """No file is made under the name of the session."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"look swapped, .*path='user_123'; pass the session id"):
        SqliteSession(name, "user_123")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("session_id", "path"),
    [
        ("user_123", "chat"),
        ("chat.database", "chat"),
        ("uploaded.db", "chat.db"),
        ("uploaded.db", ":memory:"),
        ("uploaded.db", Path("chat")),
        ("uploaded.db", SqliteSessionStore("chat")),
    ],
    ids=repr,
)
def test_a_session_id_that_is_clearly_no_path_is_accepted(session_id, path):
    """A path with a suffix, a path object and a store can only be the path."""
    assert SqliteSession(session_id, path).session_id == session_id


EXAMPLE = """
import sys
from datetime import UTC, datetime
import anyio
from tower_memory import MessageItem, Role, SqliteSession

async def main():
    async with SqliteSession("user_123", "test_chat.db") as session:
        if sys.argv[2] == "write":
            await session.clear_session()
            await session.add_items(
                [MessageItem("msg_1", Role.USER, "Hello, persistent world!", datetime.now(UTC))]
            )
        messages = await session.get_messages()
        assert len(messages) == 1
        assert messages[0].content == "Hello, persistent world!"

anyio.run(main, backend=sys.argv[1])
"""


def test_the_example_of_tower_llm_finds_its_message_in_a_new_process(tmp_path, anyio_backend):
    for step in ("write", "read", "write", "read"):
        run_python(EXAMPLE, anyio_backend, step, cwd=tmp_path, check=True, env=unmeasured())
    assert [file.name for file in tmp_path.iterdir()] == ["test_chat.db"]


# openai-agents


def scripted_model(replies, given):
    import agents
    from openai.types.responses import ResponseOutputMessage, ResponseOutputText

    class Scripted(agents.Model):
        async def get_response(self, system_instructions, input, *args, **kwargs):  # noqa: A002
            given.append(input)
            text = ResponseOutputText(type="output_text", text=replies.pop(0), annotations=[])
            message = ResponseOutputMessage(
                id="m", type="message", role="assistant", status="completed", content=[text]
            )
            return agents.ModelResponse(output=[message], usage=agents.Usage(), response_id=None)

        def stream_response(self, *args, **kwargs):
            raise NotImplementedError

    return Scripted()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # openai-agents runs on asyncio only
async def test_openai_agents_remembers_through_a_handle(tmp_path):
    import agents

    agents.set_tracing_disabled(True)
    given = []
    agent = agents.Agent(name="a", model=scripted_model(["Noted.", "Teal."], given))

    async with SqliteSession("user_123", tmp_path / "a.db") as session:
        assert isinstance(session, agents.memory.Session)
        await agents.Runner.run(agent, "My favourite colour is teal.", session=session)

    async with SqliteSession("user_123", tmp_path / "a.db") as session:
        result = await agents.Runner.run(agent, "What is it?", session=session)
        assert result.final_output == "Teal."
        assert [item["role"] for item in given[1]] == ["user", "assistant", "user"]
        assert given[1][0]["content"] == "My favourite colour is teal."
        assert [message.role for message in await session.get_messages()] == [
            "user",
            "assistant",
            "user",
            "assistant",
        ]

        session.session_settings = agents.SessionSettings(limit=1)
        assert len(await session.get_items()) == 1


def test_a_handle_can_be_used_by_anyio_run(anyio_backend, tmp_path):
    session = SqliteSession("s", tmp_path / "a.db")

    async def turn():
        async with session:
            await session.add_items(ITEMS)
            return len(await session.get_items())

    assert anyio.run(turn, backend=anyio_backend) == 3
    assert anyio.run(turn, backend=anyio_backend) == 6
