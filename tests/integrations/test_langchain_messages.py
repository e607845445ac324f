"""LangChain's messages as items: lossless or refused, with links, found by a search."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    message_to_dict,
    messages_from_dict,
)
from pydantic import BaseModel

from helpers.json_values import JSON
from helpers.langchain import HERE, Model, said, with_memory
from tower_memory import InMemorySessionStore, UnencodableItemError
from tower_memory.integrations.langchain import SessionMessageHistory
from tower_memory.windows import LastItems, LastTurns, Summarised

CALL = {"name": "weather", "args": {"city": "Rome"}, "id": "call_1", "type": "tool_call"}
BROKEN = {
    "name": "weather",
    "args": '{"ci',
    "id": "call_2",
    "error": "no JSON",
    "type": "invalid_tool_call",
}
USAGE = {
    "input_tokens": 3,
    "output_tokens": 4,
    "total_tokens": 7,
    "input_token_details": {"cache_read": 1},
}

MESSAGES = {
    "human": HumanMessage("Hi", name="anna", id="1", additional_kwargs={"lc_source": "x"}),
    "a field of its own": HumanMessage("Hi", seen_at=5),
    "blocks": HumanMessage(
        content_blocks=[
            {"type": "text", "text": "See"},
            {"type": "image", "url": "https://example.org/1.png"},
        ]
    ),
    "ai": AIMessage(
        "Let me see.",
        tool_calls=[CALL],
        invalid_tool_calls=[BROKEN],
        usage_metadata=USAGE,
        response_metadata={"model_name": "m", "logprobs": [-0.5]},
        id="run-1",
    ),
    "raw calls": AIMessage(
        "",
        additional_kwargs={
            "tool_calls": [{"id": "1", "function": {"name": "a", "arguments": "{}"}}]
        },
    ),
    "reasoning": AIMessage(
        [{"type": "reasoning", "reasoning": "So.", "extras": {"signature": "s"}}, "Yes."],
        response_metadata={"output_version": "v1"},
    ),
    "tool": ToolMessage(
        "5 degrees", tool_call_id="call_1", artifact={"rows": [1, None]}, status="error", name="t"
    ),
    "system": SystemMessage("Be brief."),
    "chat": ChatMessage("Hi", role="critic"),
    "function": FunctionMessage("5", name="weather"),
}


def history_in_memory():
    return SessionMessageHistory(InMemorySessionStore(), "here")


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
async def test_a_message_is_loaded_as_it_was_saved(message, store):
    history = SessionMessageHistory(store, "here")
    await history.aadd_messages([message])
    assert await history.aget_messages() == [message]


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
async def test_items_have_the_form_of_langchains_own_histories(message):
    history = history_in_memory()
    await history.aadd_messages([message])
    (item,) = await history.store.load("here")
    assert item == message_to_dict(message)
    assert messages_from_dict([item]) == [message]


@given(st.text(), st.dictionaries(st.text(), JSON), JSON)
async def test_all_json_values_come_back(text, fields, artifact):
    history = history_in_memory()
    messages = [
        AIMessage(text, additional_kwargs={"x": fields}, response_metadata=fields),
        ToolMessage(text, tool_call_id=text, artifact=artifact),
    ]
    try:
        await history.aadd_messages(messages)
    except UnencodableItemError:
        assert await history.aget_messages() == []
    else:
        assert await history.aget_messages() == messages


async def test_calls_that_were_removed_from_a_message_stay_removed():
    """The constructor of `AIMessage` would read the calls again from the provider's fields."""
    message = MESSAGES["raw calls"].model_copy(update={"tool_calls": []})
    history = history_in_memory()
    await history.aadd_messages([message])
    (loaded,) = await history.aget_messages()
    assert loaded == message
    assert loaded.tool_calls == []


@dataclasses.dataclass
class Row:
    number: int


class Answer(BaseModel):
    on: dt.date


class OwnMessage(HumanMessage):
    pass


@pytest.mark.parametrize(
    ("message", "where"),
    [
        (ToolMessage("x", tool_call_id="1", artifact=Row(1)), "items[0].data.artifact"),
        (ToolMessage("x", tool_call_id="1", artifact=Answer(on=dt.date(2026, 1, 1))), "artifact"),
        (ToolMessage("x", tool_call_id="1", artifact=(1, 2)), "artifact"),
        (AIMessage("x", response_metadata={"at": dt.datetime.now(dt.UTC)}), "response_metadata.at"),
        (AIMessage("x", additional_kwargs={1: 2}), "additional_kwargs"),
    ],
    ids=["a dataclass", "a model", "a tuple", "a time", "a key"],
)
async def test_a_value_that_json_cannot_hold_is_refused_with_its_place(message, where):
    history = history_in_memory()
    with pytest.raises(UnencodableItemError) as refused:
        await history.aadd_messages([HumanMessage("Hi"), message])
    assert where.removeprefix("items[0]") in refused.value.where
    assert await history.aget_messages() == []


@pytest.mark.parametrize(
    "message",
    [
        OwnMessage("secret"),
        RemoveMessage(id="secret"),
        HumanMessage.model_construct(content=5, type="human"),
    ],
    ids=["of a subclass", "that removes another", "that is not valid"],
)
async def test_a_message_that_could_not_be_loaded_again_is_refused(message):
    with pytest.raises(TypeError, match=f"a message of the class {type(message).__name__} cannot"):
        await history_in_memory().aadd_messages([message])


async def test_a_chunk_is_stored_as_its_message():
    chunk = AIMessageChunk(
        content="Hi",
        tool_call_chunks=[{"name": "a", "args": "{}", "id": "1", "index": 0}],
        usage_metadata=USAGE,
        id="run-1",
    )
    history = history_in_memory()
    await history.aadd_messages([chunk])
    (loaded,) = await history.aget_messages()
    calls = [{"name": "a", "args": {}, "id": "1", "type": "tool_call"}]
    assert loaded == AIMessage("Hi", tool_calls=calls, usage_metadata=USAGE, id="run-1")


async def test_a_parsed_reply_is_stored_as_json():
    answer = Answer(on=dt.date(2026, 1, 1))
    message = AIMessage("{}", additional_kwargs={"parsed": answer, "refusal": None})
    history = history_in_memory()
    await history.aadd_messages([message])
    (loaded,) = await history.aget_messages()
    assert loaded.additional_kwargs == {"parsed": {"on": "2026-01-01"}, "refusal": None}
    assert message.additional_kwargs["parsed"] is answer


@pytest.mark.parametrize(
    "item",
    [
        {"lc": 1, "type": "constructor", "id": ["langchain", "HumanMessage"], "kwargs": {}},
        {"lc": 1, "type": "secret", "id": ["HOME"]},
        {"type": "human", "data": {"lc": 1}},
        {"type": "human", "data": "secret"},
        {"type": "ai", "data": {"content": "secret", "tool_calls": 5, "id": []}},
        {"role": "waiter", "content": {"lc": 1, "type": "secret", "id": ["HOME"]}},
        {"role": 5, "content": "secret"},
        {"role": "tool", "content": "secret"},
        {"role": "assistant", "content": "secret", "tool_calls": 5},
        "secret",
    ],
)
async def test_stored_data_makes_no_object_but_a_message(item, session_with):
    """The form of LangChain's serialisation, which can name any class, is no message here."""
    store = await session_with(item)
    with pytest.raises(TypeError, match="history must consist of LangChain's messages") as refused:
        await SessionMessageHistory(store, "here").aget_messages()
    assert "secret" not in str(refused.value)


@pytest.fixture
def session_with():
    """Return a function that makes a store with the given items in one session."""
    from tower_memory import Turn

    async def make(*items):
        store = InMemorySessionStore()
        await store.append(Turn("here", items))
        return store

    return make


async def test_messages_of_chat_completions_are_read(session_with):
    """The command imports conversations in this form."""
    call = {"id": "1", "type": "function", "function": {"name": "a", "arguments": '{"b":1}'}}
    broken = {"id": "2", "type": "function", "function": {"name": "a", "arguments": '{"b'}}
    store = await session_with(
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [call, broken]},
        {"role": "tool", "tool_call_id": "1", "content": "5"},
        {"role": "assistant", "content": "Five."},
    )
    model = Model()
    await with_memory(model, store).ainvoke("Go on", HERE)

    human, ai, result, second, answer, last = model.inputs[0]
    assert said([human, ai, result, answer, last]) == ["Hi", "", "5", "Five.", "Go on"]
    assert ai.tool_calls == [{"name": "a", "args": {"b": 1}, "id": "1", "type": "tool_call"}]
    assert ai.invalid_tool_calls[0]["id"] == second.tool_call_id == "2"
    assert "interrupted" in second.content


@pytest.mark.parametrize("role", ["critic", "remove"])
async def test_messages_of_other_roles_are_read_as_such(role, session_with):
    """LangChain reads the role 'remove' as a message that removes another one."""
    store = await session_with({"role": role, "content": "Shorter!", "name": "Ann"})
    (loaded,) = await SessionMessageHistory(store, "here").aget_messages()
    assert loaded == ChatMessage("Shorter!", role=role, name="Ann")


async def test_a_search_finds_the_texts_of_messages_and_no_ids(store):
    messages = [
        HumanMessage([{"type": "text", "text": "teal"}, "olive"]),
        AIMessage("", tool_calls=[{"name": "paint", "args": {"hue": "crimson"}, "id": "violet"}]),
        ToolMessage('{"shade": "amber"}', tool_call_id="violet"),
        AIMessage("indigo", response_metadata={"model": "ochre"}),
    ]
    await SessionMessageHistory(store, "here").aadd_messages(messages)
    for word in ("teal", "olive", "amber", "indigo"):
        assert [hit.session_id for hit in await store.search(word)] == ["here"]
    for word in ("crimson", "violet", "paint", "ochre", "human", "content"):
        assert not await store.search(word)


CONVERSATION = [
    HumanMessage("Weather?"),
    AIMessage("", tool_calls=[CALL]),
    ToolMessage("5 degrees", tool_call_id="call_1"),
    AIMessage("A coat."),
    HumanMessage("Thanks"),
    AIMessage("Bye."),
]


@pytest.mark.parametrize(
    ("window", "given"),
    [
        (LastTurns(1), ["Thanks", "Bye.", "Now?"]),
        (LastTurns(2), ["Weather?", "", "5 degrees", "A coat.", "Thanks", "Bye.", "Now?"]),
        (LastItems(4), ["Thanks", "Bye.", "Now?"]),
    ],
    ids=repr,
)
async def test_a_window_starts_at_an_exchange_and_keeps_calls_with_their_results(
    window, given, store
):
    await SessionMessageHistory(store, "here").aadd_messages(CONVERSATION)
    model = Model()
    await with_memory(model, store, window=window).ainvoke("Now?", HERE)
    assert said(model.inputs[0]) == given


async def test_a_summary_is_a_message_of_the_user(store):
    async def summarise(items):
        return f"{len(items)} messages"

    history = SessionMessageHistory(store, "here")
    await history.aadd_messages(CONVERSATION[:4])
    await history.aadd_messages(CONVERSATION[4:])
    model = Model()
    window = Summarised(summarise, keep=LastTurns(1), store=store, every=1)
    await with_memory(model, store, window=window).ainvoke("Now?", HERE)
    summary, *others = model.inputs[0]
    assert isinstance(summary, HumanMessage)
    assert "4 messages" in summary.content
    assert said(others) == ["Thanks", "Bye.", "Now?"]
