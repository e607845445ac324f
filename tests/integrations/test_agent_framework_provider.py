"""The history provider of agent-framework without an agent, on both runtimes."""

from __future__ import annotations

import pytest
from agent_framework import Content, Message

from helpers.agents import texts
from tower_memory import (
    InMemorySessionStore,
    ScopedStore,
    SessionError,
    SqliteSessionStore,
    Turn,
    TurnExists,
)
from tower_memory.bridges import ThreadedStore
from tower_memory.integrations.agent_framework import SessionHistoryProvider
from tower_memory.windows import LastItems, LastTurns, Summarised

HI = Message("user", ["Hi"])
HELLO = Message("assistant", ["Hello"], author_name="agent", message_id="m1")


def function_call(name, **fields):
    return Content.from_function_call("call_1", name, **fields)


ALL_CONTENTS = [
    Content.from_text("text", annotations=[{"type": "citation", "title": "t", "url": "u"}]),
    Content.from_text_reasoning(text="thought", protected_data="sealed"),
    Content.from_data(b"\x00\x01", "image/png"),
    Content.from_uri("https://example.com/a.png", media_type="image/png"),
    Content.from_error(message="m", error_code="c", error_details="d"),
    function_call("f", arguments='{"a": 1}'),
    function_call("f", arguments={"a": [1, 2.5, None, True]}),
    Content.from_function_result("call_1", result="4"),
    Content.from_function_result("call_1", result=[Content.from_text("a"), Content.from_text("b")]),
    Content.from_usage({"input_token_count": 3, "output_token_count": 4}),
    Content.from_hosted_file("file_1"),
    Content.from_function_approval_request("call_1", function_call("f", arguments="{}")),
    Content.from_function_approval_response(
        True, "call_1", function_call=function_call("f", arguments="{}")
    ),
    Content.from_code_interpreter_tool_call(call_id="c", inputs=[Content.from_text("1 + 1")]),
    Content.from_code_interpreter_tool_result(call_id="c", outputs=[Content.from_text("2")]),
    Content.from_mcp_server_tool_call(call_id="c", tool_name="t", server_name="s", arguments={}),
    Content.from_mcp_server_tool_result(call_id="c", output=[{"text": "x"}]),
]


@pytest.mark.parametrize("content", ALL_CONTENTS, ids=range(len(ALL_CONTENTS)))
async def test_a_message_with_any_content_comes_back_as_the_framework_writes_it(content):
    message = Message(
        "assistant", [content], message_id="m", additional_properties={"a": {"b": [1]}}
    )
    provider = SessionHistoryProvider(InMemorySessionStore())
    await provider.save_messages("chat", [message])
    (loaded,) = await provider.get_messages("chat")
    assert loaded.contents == message.contents
    assert loaded.to_dict() == message.to_dict()


async def test_the_framework_leaves_out_raw_representations_and_the_text_of_exceptions():
    content = Content.from_function_result(
        "call_1", result="failed", exception="secret", raw_representation=object()
    )
    message = Message("tool", [content], raw_representation=object())
    provider = SessionHistoryProvider(InMemorySessionStore())
    await provider.save_messages("chat", [message])

    (loaded,) = await provider.get_messages("chat")
    assert loaded.raw_representation is loaded.contents[0].raw_representation is None
    assert loaded.contents[0].exception not in (None, "secret")


async def test_messages_saved_again_with_their_run_id_are_stored_once(store):
    provider = SessionHistoryProvider(store)
    for _ in range(2):
        await provider.save_messages("chat", [HI, HELLO], state={"run_id": "request-1"})
    assert texts(await provider.get_messages("chat", state={})) == ["Hi", "Hello"]

    with pytest.raises(TurnExists):
        await provider.save_messages("chat", [HI], state={"run_id": "request-1"})


async def test_messages_saved_without_a_run_id_are_new_each_time(store):
    provider = SessionHistoryProvider(store)
    for state in (None, {}):
        await provider.save_messages("chat", [HI], state=state)
    assert texts(await provider.get_messages("chat")) == ["Hi", "Hi"]


async def test_no_messages_store_nothing(store):
    provider = SessionHistoryProvider(store)
    await provider.save_messages("chat", [])
    assert (await store.load("chat")).revision == 0
    assert await provider.get_messages("chat") == []


async def test_a_session_id_is_required():
    """A session of all runs without an id would mix their users."""
    provider = SessionHistoryProvider(InMemorySessionStore())
    with pytest.raises(TypeError, match="session_id must be a string, got None"):
        await provider.get_messages(None)
    with pytest.raises(TypeError, match="session_id must be a string, got None"):
        await provider.save_messages(None, [HI])


@pytest.mark.parametrize(
    "item",
    [
        "Hi",
        {"role": "user", "content": "Hi"},
        {"role": "user", "contents": "Hi"},
        {"role": "user", "contents": [], "other": 1},
        {"type": "other", "role": "user", "contents": []},
    ],
)
async def test_an_item_that_is_no_message_of_the_framework_is_refused(item):
    store = InMemorySessionStore()
    await store.append(Turn("chat", [item]))
    with pytest.raises(SessionError, match="session 'chat': it has an item that is no message"):
        await SessionHistoryProvider(store).get_messages("chat")


async def test_a_window_may_meet_items_that_are_no_messages():
    store = InMemorySessionStore()
    provider = SessionHistoryProvider(store, window=LastItems(2))
    await store.append(Turn("chat", ["Hi", {"contents": [1]}]))
    await provider.save_messages("chat", [HI, HELLO])
    assert texts(await provider.get_messages("chat")) == ["Hi", "Hello"]


async def test_a_history_that_is_cut_within_an_exchange_starts_with_the_next_one():
    class NewestThree:
        def needs(self, loaded):
            return 3

        async def __call__(self, history):
            return history

    result = Message("tool", [Content.from_function_result("call_1", result="4")])
    provider = SessionHistoryProvider(InMemorySessionStore(), window=NewestThree())
    await provider.save_messages("chat", [HI, Message("assistant", [function_call("f")]), result])
    assert await provider.get_messages("chat") != []
    await provider.save_messages("chat", [HI, HELLO])
    assert texts(await provider.get_messages("chat")) == ["Hi", "Hello"]


async def test_an_answer_to_a_request_for_approval_starts_no_exchange():
    """A call that the model's server makes has no result in the history."""
    hosted = function_call("f", arguments="{}", hosted=True)
    asking = Content.from_function_approval_request("request_1", hosted)
    answer = Content.from_function_approval_response(True, "request_1", function_call=hosted)
    run = [HI, Message("assistant", [asking]), Message("user", [answer]), HELLO]
    provider = SessionHistoryProvider(InMemorySessionStore(), window=LastTurns(1))
    for _ in range(2):
        await provider.save_messages("chat", run)
    assert texts(await provider.get_messages("chat")) == ["Hi", "", "", "Hello"]


async def test_a_window_without_a_bound_gets_the_whole_history():
    async def newest(history):
        return history[-1:]

    provider = SessionHistoryProvider(InMemorySessionStore(), window=newest)
    await provider.save_messages("chat", [HI, HELLO])
    assert texts(await provider.get_messages("chat")) == ["Hello"]


async def test_a_store_of_every_event_loop_and_a_scope_of_it_work(path):
    async with ThreadedStore(SqliteSessionStore(path)) as store:
        provider = SessionHistoryProvider(ScopedStore(store, "anna"))
        await provider.save_messages("chat", [HI])
        assert texts(await provider.get_messages("chat")) == ["Hi"]
        assert await SessionHistoryProvider(store).get_messages("chat") == []


def test_bad_parameters_are_refused():
    store = InMemorySessionStore()
    with pytest.raises(TypeError, match="store must have load, append, pop and clear"):
        SessionHistoryProvider("chat.db")
    with pytest.raises(TypeError, match="source_id must be a string"):
        SessionHistoryProvider(store, 7)
    with pytest.raises(TypeError, match="window must be a service"):
        SessionHistoryProvider(store, window=20)

    async def summarise(items):
        return "summary"

    other = Summarised(summarise, store=InMemorySessionStore(), keep=LastTurns(1))
    with pytest.raises(ValueError, match="window must read the store"):
        SessionHistoryProvider(store, window=other)


def test_the_provider_has_the_options_of_the_base_class():
    provider = SessionHistoryProvider(
        InMemorySessionStore(),
        "history",
        load_messages=False,
        store_inputs=False,
        store_context_messages=True,
        store_context_from={"facts"},
        store_outputs=False,
    )
    assert vars(provider) | {
        "source_id": "history",
        "load_messages": False,
        "store_inputs": False,
        "store_context_messages": True,
        "store_context_from": {"facts"},
        "store_outputs": False,
    } == vars(provider)
    assert SessionHistoryProvider(InMemorySessionStore()).source_id == "tower_memory"
