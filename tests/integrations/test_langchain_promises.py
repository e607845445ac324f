"""The promises of the memory layer for LangChain's runnables, and their streams."""

from __future__ import annotations

import anyio
import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    RemoveMessage,
    ToolMessage,
)
from langchain_core.runnables.utils import AddableDict

from helpers.langchain import (
    HERE,
    Model,
    Streaming,
    UnwritableStore,
    said,
    stored,
    with_memory,
    words,
)
from helpers.messages import INTERRUPTED_REPLY as INTERRUPTED
from helpers.runtimes import on_asyncio
from tower_memory import (
    InMemorySessionStore,
    SaveError,
    SessionConflict,
    TurnExists,
)
from tower_memory.integrations.langchain import Invocation, SessionMessageHistory


@pytest.fixture
def store():
    return InMemorySessionStore()


CALL = {"name": "weather", "args": {}, "id": "call_1", "type": "tool_call"}


# The promises of the memory layer


async def test_options_get_the_input_and_the_config(store):
    seen = []

    def turn_id(call: Invocation):
        seen.append(call.input)
        return call.values["turn_id"]

    config = {"configurable": {"session_id": "here", "turn_id": "t1"}}
    model = Model()
    runnable = with_memory(
        model, store, turn_id=turn_id, metadata=lambda call, reply: {"said": reply.content}
    )
    await runnable.ainvoke("Hi", config)
    with pytest.raises(TurnExists):
        await runnable.ainvoke("Hi", config)
    assert seen == ["Hi", "Hi"]
    assert len(model.inputs) == 1
    (turn,) = (await store.load("here")).turns
    assert (turn.turn_id, turn.metadata) == ("t1", {"said": "re: Hi"})


async def test_a_turn_can_be_replaced(store):
    model = Model()
    runnable = with_memory(model, store, replaces=lambda call: call.values.get("replaces"))
    await runnable.ainvoke("Hi", HERE)
    await runnable.ainvoke("Typo", HERE)
    second = (await store.load("here")).turns[1].turn_id
    await runnable.ainvoke("Type", {"configurable": {"session_id": "here", "replaces": second}})
    assert await stored(store) == ["Hi", "re: Hi", "Type", "re: Type"]


async def test_a_failed_model_changes_nothing(store):
    with pytest.raises(ConnectionError):
        await with_memory(Model(ConnectionError()), store).ainvoke("Hi", HERE)
    assert await stored(store) == []


async def test_a_journal_keeps_the_question_of_a_failed_call(store):
    with pytest.raises(ConnectionError):
        await with_memory(Model(ConnectionError()), store, journal=True).ainvoke("Hi", HERE)
    (pending,) = await store.pending("here")
    assert (said(pending.items), pending.state) == (["Hi"], "failed")


async def test_a_failed_save_reaches_the_caller_with_the_reply():
    with pytest.raises(SaveError) as failed:
        await with_memory(Model(), UnwritableStore()).ainvoke("Hi", HERE)
    assert failed.value.response.content == "re: Hi"
    assert said(failed.value.turn.items) == ["Hi", "re: Hi"]


async def test_a_failed_save_of_a_stream_raises_after_the_last_chunk():
    stream = with_memory(Streaming(words("a", "b")), UnwritableStore()).astream("Hi", HERE)
    assert said([await anext(stream), await anext(stream)]) == ["a", "b"]
    with pytest.raises(SaveError):
        await anext(stream)


async def test_overlapping_turns_both_stay_in_the_session(store):
    arrived = anyio.Event()

    class Slow(Model):
        async def ainvoke(self, given, config=None, **kwargs):
            if given[-1].content == "slow":
                await arrived.wait()
            return await super().ainvoke(given, config)

    runnable = with_memory(Slow(), store, overlap="append")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runnable.ainvoke, "slow", HERE)
        await anyio.wait_all_tasks_blocked()
        await runnable.ainvoke("fast", HERE)
        arrived.set()
    assert await stored(store) == ["fast", "re: fast", "slow", "re: slow"]


async def test_an_overlapping_turn_can_be_rejected(store):
    entered, go_on = anyio.Event(), anyio.Event()

    class Slow(Model):
        async def ainvoke(self, given, config=None, **kwargs):
            entered.set()
            await go_on.wait()
            return self.invoke(given)

    runnable = with_memory(Slow(), store, overlap="reject")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runnable.ainvoke, "first", HERE)
        await entered.wait()
        with pytest.raises(SessionConflict):
            await runnable.ainvoke("second", HERE)
        go_on.set()
    assert await stored(store) == ["first", "re: first"]


async def test_a_caller_that_is_cancelled_during_the_save_gets_the_reply(store):
    class Cancelling(InMemorySessionStore):
        async def append(self, turn):
            scope.cancel()
            await anyio.lowlevel.checkpoint()
            return await super().append(turn)

    store = Cancelling()
    with anyio.CancelScope() as scope:
        reply = await with_memory(Model(), store).ainvoke("Hi", HERE)
    assert reply.content == "re: Hi"
    assert await stored(store) == ["Hi", "re: Hi"]


async def test_a_call_that_is_cancelled_in_the_model_saves_nothing(store):
    class Waiting(Model):
        async def ainvoke(self, given, config=None, **kwargs):
            scope.cancel()
            await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        await with_memory(Waiting(), store).ainvoke("Hi", HERE)
    assert scope.cancelled_caught
    assert await stored(store) == []
    assert said([await with_memory(Model(), store).ainvoke("Ho", HERE)]) == ["re: Ho"]


async def test_a_turn_loads_the_session_once():
    loads = []

    class Counting(InMemorySessionStore):
        async def load(self, session_id, *, limit=None, before=None):
            loads.append(session_id)
            return await super().load(session_id, limit=limit, before=before)

    runnable = with_memory(Model(), Counting())
    await runnable.ainvoke("Hi", HERE)
    await runnable.ainvoke("Ho", HERE)
    assert loads == ["here", "here"]


# Streams


@pytest.mark.parametrize(
    ("chunks", "reply"),
    [
        (words("a", "b", ""), "ab"),
        (["a", "b"], "ab"),
        ([AIMessage("ab")], "ab"),
        ([AIMessage("x"), AIMessage("ab")], "ab"),
        ([AddableDict(output="a"), AddableDict(output="b")], "ab"),
        ([AddableDict(output=words("a")[0]), AddableDict(output=words("b")[0])], "ab"),
        ([{"messages": [HumanMessage("Hi")]}, {"messages": [HumanMessage("Hi"), "ab"]}], "ab"),
    ],
    ids=["message", "text", "whole", "whole messages", "dicts", "dicts of chunks", "states"],
)
async def test_a_stream_is_passed_on_and_saved_as_its_messages(chunks, reply, store):
    chunks = [
        {"messages": [AIMessage(m) if m == "ab" else m for m in each["messages"]]}
        if isinstance(each, dict) and "messages" in each
        else each
        for each in chunks
    ]
    runnable = with_memory(Streaming(chunks), store)
    received = [chunk async for chunk in runnable.astream("Hi", HERE)]
    assert all(one is other for one, other in zip(received, chunks, strict=True))
    history = await SessionMessageHistory(store, "here").aget_messages()
    assert type(history[-1]) is AIMessage
    assert (history[0].content, history[-1].content) == ("Hi", reply)


REPLY = [AIMessage("", tool_calls=[CALL]), ToolMessage("5", tool_call_id="call_1"), AIMessage("ab")]


@pytest.mark.parametrize(
    "chunks",
    [
        [
            {"model": {"messages": REPLY[:1]}},
            {"tools": {"messages": REPLY[1:2]}, "x": None},
            {"model": {"messages": REPLY[2]}},
        ],
        [
            *((each, {"node": "x"}) for each in REPLY[:2]),
            *((each, {"node": "x"}) for each in words("a", "b")),
        ],
        [*REPLY[:2], *words("a", "b")],
    ],
    ids=["updates", "messages", "messages alone"],
)
async def test_the_other_streams_of_an_agent_are_saved(chunks, store):
    runnable = with_memory(Streaming(chunks), store)
    async for _ in runnable.astream({"messages": "Hi"}, HERE):
        pass
    history = await SessionMessageHistory(store, "here").aget_messages()
    assert said(history) == ["Hi", "", "5", "ab"]
    assert [type(message) for message in history[1:]] == [AIMessage, ToolMessage, AIMessage]
    assert history[1].tool_calls == [CALL]


MODES = [
    ("messages", (AIMessage("no"), {})),
    ("updates", {"model": {"messages": REPLY[:1]}}),
    ("custom", "progress"),
    ("updates", {"tools": {"messages": REPLY[1:2]}}),
    ("updates", {"model": {"messages": REPLY[2]}}),
]


@pytest.mark.parametrize(
    "chunks",
    [
        MODES,
        [*MODES, ("values", {"messages": [HumanMessage("Hi"), *REPLY]})],
        [*(((), *chunk) for chunk in MODES), (("sub",), "updates", {"x": {"messages": "no"}})],
        [((), chunk) for mode, chunk in MODES if mode == "updates"],
        [{"type": mode, "ns": (), "data": data} for mode, data in MODES],
    ],
    ids=["modes", "modes with values", "modes of subgraphs", "subgraphs", "parts"],
)
async def test_one_of_several_modes_of_a_stream_is_saved(chunks, store):
    runnable = with_memory(Streaming(chunks), store)
    async for _ in runnable.astream({"messages": "Hi"}, HERE):
        pass
    assert await stored(store) == ["Hi", "", "5", "ab"]


async def test_a_stream_of_other_modes_is_on_the_error(store):
    runnable = with_memory(Streaming([("custom", "progress"), ("tasks", {})]), store)
    with pytest.raises(SaveError, match="stream_mode must have one of values.*, got custom, tasks"):
        [_ async for _ in runnable.astream("Hi", HERE)]
    assert await stored(store) == []


async def test_the_chunks_of_subgraphs_are_not_saved(store):
    chunks = [(("sub",), {"x": {"messages": "no"}})]
    async for _ in with_memory(Streaming(chunks), store).astream("Hi", HERE):
        pass
    assert await stored(store) == ["Hi"]


@pytest.mark.parametrize("mode", [(), ("messages",)])
async def test_messages_of_subgraphs_alone_are_refused(mode, store):
    """A graph may take them over or not."""
    chunks = [(path, *mode, (AIMessage("a"), {})) for path in (("sub",), ())]
    with pytest.raises(SaveError, match="'values' or 'updates' with subgraphs=True"):
        [_ async for _ in with_memory(Streaming(chunks), store).astream("Hi", HERE)]
    assert await stored(store) == []


async def test_a_pair_of_messages_has_no_mode(store):
    async for _ in with_memory(Streaming([("a", AIMessage("b"))]), store).astream("Hi", HERE):
        pass
    assert await stored(store) == ["Hi", "b"]


SUMMARY = HumanMessage("sum", additional_kwargs={"lc_source": "summarization"})
REMOVE_ALL = RemoveMessage("__remove_all__")


@pytest.mark.parametrize(
    ("updates", "reply"),
    [
        ([[REMOVE_ALL, SUMMARY, AIMessage("old"), HumanMessage("Hi")], REPLY], ["", "5", "ab"]),
        ([REPLY[:2], [REMOVE_ALL, SUMMARY, *REPLY[:2]], REPLY[2]], ["", "5", "ab"]),
        ([[AIMessage("bad", id="1")], [RemoveMessage("1"), AIMessage("good")]], ["good"]),
        ([[AIMessage("4711", id="1")], [AIMessage("***", id="1")]], ["***"]),
        (
            [
                [HumanMessage("H*")],
                [AIMessage("draft")],
                [HumanMessage("better")],
                [AIMessage("ab")],
            ],
            ["draft", "better", "ab"],
        ),
        ([[HumanMessage("H*")]], []),
    ],
    ids=["summary", "summary of the turn", "removed", "changed", "added", "no reply"],
)
async def test_an_agent_may_remove_and_change_messages(updates, reply, store):
    chunks = [{"node": {"messages": messages}} for messages in updates]
    async for _ in with_memory(Streaming(chunks), store).astream("Hi", HERE):
        pass
    assert await stored(store) == ["Hi", *reply]


async def test_streamed_messages_that_remove_and_sum_up_others_are_not_saved(store):
    chunks = [(each, {}) for each in (REMOVE_ALL, SUMMARY, *REPLY[:2], SUMMARY, REPLY[2])]
    async for _ in with_memory(Streaming(chunks), store).astream("Hi", HERE):
        pass
    assert await stored(store) == ["Hi", "", "5", "ab"]


async def test_a_call_with_a_result_is_kept_whole_in_an_interrupted_stream(store):
    call = {"name": "add", "args": "{}", "id": "call_1", "index": 0}
    chunks = [
        (AIMessageChunk(content="let me", id="1", tool_call_chunks=[call]), {}),
        (ToolMessage("5", tool_call_id="call_1"), {}),
        (AIMessageChunk(content="a", id="2"), {}),
        "x",
    ]
    stream = with_memory(Streaming(chunks), store, keep_interrupted=True).astream("Hi", HERE)
    for _ in range(3):
        await anext(stream)
    await stream.aclose()
    history = await SessionMessageHistory(store, "here").aget_messages()
    assert said(history) == ["Hi", "let me", "5", f"a\n\n{INTERRUPTED}"]
    assert [len(getattr(each, "tool_calls", ())) for each in history] == [0, 1, 0, 0]


async def test_a_stream_without_chunks_saves_the_question(store):
    assert [chunk async for chunk in with_memory(Streaming([]), store).astream("Hi", HERE)] == []
    assert await stored(store) == ["Hi"]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("ending", ["closed", "failed"])
async def test_an_interrupted_stream_is_kept_on_request(ending, keep, store):
    call = {"name": "a", "args": '{"city": "Ro', "id": "1", "index": 0}
    chunks = [*words("Once"), *words(" upon", tool_call_chunks=[call]), ConnectionError(), "x"]
    if ending == "closed":
        del chunks[2]
    stream = with_memory(Streaming(chunks), store, keep_interrupted=keep).astream("Hi", HERE)
    assert said([await anext(stream), await anext(stream)]) == ["Once", " upon"]
    if ending == "closed":
        await stream.aclose()
    else:
        with pytest.raises(ConnectionError):
            await anext(stream)
    history = await SessionMessageHistory(store, "here").aget_messages()
    assert said(history) == (["Hi", f"Once upon\n\n{INTERRUPTED}"] if keep else [])
    assert not any(message.tool_calls for message in history[1:])


@pytest.mark.parametrize(
    ("chunk", "kept"),
    [
        (AIMessageChunk(content=""), []),
        ("Once", ["Hi", f"Once\n\n{INTERRUPTED}"]),
        (AIMessage("Once"), ["Hi", "Once"]),
    ],
    ids=["no text", "text", "a whole message"],
)
async def test_the_received_part_of_an_interrupted_stream_is_kept(chunk, kept, store):
    model = Streaming([chunk, "x"])
    stream = with_memory(model, store, keep_interrupted=True).astream("Hi", HERE)
    await anext(stream)
    await stream.aclose()
    assert await stored(store) == kept


async def test_the_next_turn_waits_for_an_open_stream(store):
    model = Streaming(words("a", "b"), words("c"))
    runnable = with_memory(model, store)

    async def ask_again():
        async for _ in runnable.astream("Ho", HERE):
            pass

    async with anyio.create_task_group() as tasks:
        stream = runnable.astream("Hi", HERE)
        await anext(stream)
        tasks.start_soon(ask_again)
        await anyio.wait_all_tasks_blocked()
        assert len(model.inputs) == 1
        assert [chunk.content async for chunk in stream] == ["b"]
    assert await stored(store) == ["Hi", "ab", "Ho", "c"]


@on_asyncio
async def test_the_fields_of_a_streamed_reply_are_saved(store):
    call = {"name": "a", "args": {"b": 1}, "id": "1", "type": "tool_call"}
    message = AIMessage("", tool_calls=[call])
    model = GenericFakeChatModel(messages=iter([message]))
    memory = with_memory(model, store)
    reply = await memory.ainvoke("Hi", HERE)
    history = await SessionMessageHistory(store, "here").aget_messages()
    assert history[-1] == reply
    assert history[-1].tool_calls == [call]
