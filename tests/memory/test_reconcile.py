"""Reconcile: only the new items of a whole conversation in a request or response are saved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai import messages as pydantic_ai

from helpers.internals import new_in_request, new_in_response
from helpers.layers import memory_over
from helpers.messages import SYSTEM, assistant, calling, result, user
from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    SaveSession,
    SessionConflict,
    ToolCallItem,
    Turn,
    TurnExists,
)
from tower_memory.dialects import AnthropicMessages, ChatCompletions, OpenAIResponses, PydanticAI
from tower_memory.testing import ScriptedService
from tower_memory.windows import LastTurns

CALLED = [calling("1"), result("1")]


# Responses
async def agent_that_appends(messages):
    """Append to the list of the request, and repeat a message of the user."""
    messages.append(assistant("step"))
    messages.append(user("go on"))
    messages.append(assistant("done"))
    return {"messages": messages}


async def agent_that_copies(messages):
    return {"messages": [SYSTEM, *messages, assistant("step"), user("go on"), assistant("done")]}


async def agent_that_numbers(messages):
    said = [*messages, assistant("step"), user("go on"), assistant("done")]
    return {"messages": [{**message, "id": str(number)} for number, message in enumerate(said)]}


async def agent_that_returns_its_own(_messages):
    return {"messages": [assistant("step"), user("go on"), assistant("done")]}


async def agent_that_forgets(messages):
    return {"messages": [*messages[2:], assistant("step"), user("go on"), assistant("done")]}


@pytest.mark.parametrize(
    "agent",
    [
        agent_that_appends,
        agent_that_copies,
        agent_that_numbers,
        agent_that_returns_its_own,
        agent_that_forgets,
    ],
)
async def test_only_new_items_of_a_whole_conversation_are_saved(store, agent):
    said = [user("go on"), assistant("done"), user("go on"), assistant("step")]
    await store.append(Turn("s", said))
    await memory_over(store)(agent)([user("go on")])
    kept = [{key: item[key] for key in ("role", "content")} for item in await store.load("s")]
    assert kept == [*said, user("go on"), assistant("step"), user("go on"), assistant("done")]


@pytest.mark.parametrize("agent", [agent_that_appends, agent_that_copies])
async def test_a_conversation_may_begin_with_an_assistants_message(store, agent):
    await store.append(Turn("s", [assistant("Welcome")]))
    await memory_over(store)(agent)([user("a")])
    new = [user("a"), assistant("step"), user("go on"), assistant("done")]
    assert list(await store.load("s")) == [assistant("Welcome"), *new]


@pytest.mark.parametrize(
    ("held", "limit", "asked", "said"),
    [
        ([user("a"), *CALLED, assistant("A")], 2, [user("b")], [assistant("B")]),
        ([user("a")], None, [assistant("A")], []),
        ([user("a")], None, [assistant("A"), user("b")], [assistant("B")]),
    ],
)
async def test_items_that_the_model_was_given_are_not_saved_twice(store, held, limit, asked, said):
    """A result without its call is not given to the model, and a request may begin with a reply."""

    async def agent(messages):
        return {"messages": [*messages, *said]}

    await store.append(Turn("s", held))
    memory = MemoryLayer(LoadSession(store, limit), SaveSession(store), session_id="s")
    await memory(agent)(asked)
    assert list(await store.load("s")) == [*held, *asked, *said]


def test_the_search_for_new_items_stops_at_the_users_message():
    def given():
        yield user("a")
        pytest.fail("looked further")

    assert new_in_response(given(), [assistant("A"), user("b")]) == [assistant("A"), user("b")]


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
async def test_a_summary_in_place_of_dropped_messages_is_not_saved(store, kept):
    """A summary at the start stands for the history, unless all messages were dropped."""
    said = [user("a"), assistant("A"), user("b")]
    summary = [user("Before: a lot.")]

    async def agent(messages):
        end = messages[len(messages) - kept :]
        return {"messages": [*summary, *end, assistant("step"), user("go on"), assistant("B")]}

    await store.append(Turn("s", said[:2]))
    await memory_over(store)(agent)(said[2:])
    new = [assistant("step"), user("go on"), assistant("B")]
    assert list(await store.load("s")) == [*said, *([] if kept else summary), *new]


STEPS = {
    "responses": (
        OpenAIResponses(),
        [
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "b"}],
            }
        ],
    ),
    "anthropic": (AnthropicMessages(), [assistant([{"type": "text", "text": "b"}])]),
    "chat completions": (ChatCompletions(), [assistant("b")]),
}


@pytest.mark.parametrize("name", STEPS)
async def test_only_new_items_are_saved_in_other_dialects_too(name):
    dialect, steps = STEPS[name]
    store = InMemorySessionStore()

    async def agent(messages):
        whole = [*messages, *steps]
        return whole if name == "responses" else {"messages": whole}

    service = memory_over(store, dialect=dialect)(agent)
    await service([user("a")])
    await service([user("a")])
    assert list(await store.load("s")) == [user("a"), *steps] * 2


async def test_only_new_items_are_saved_in_pydantic_ais_dialect_too():
    store = InMemorySessionStore()

    async def agent(messages):
        return [*messages, pydantic_ai.ModelResponse([pydantic_ai.TextPart("b")])]

    service = memory_over(store, dialect=PydanticAI())(agent)
    for _ in range(2):
        await service([pydantic_ai.ModelRequest.user_text_prompt("a")])
    kinds = [item["kind"] for item in await store.load("s")]
    assert kinds == ["request", "response"] * 2


texts = st.lists(st.sampled_from("ab"), max_size=6)


@given(before=texts, new=texts.filter(bool), steps=texts, drop=st.integers(0, 6))
def test_items_after_the_given_items_are_new_however_similar_they_are(before, new, steps, drop):
    """An agent may repeat all items that it was given, the last of them, or none."""
    said = [user(text) for text in [*before, *new]]
    more = [assistant(text) for text in steps]
    repeated = said[min(drop, len(said) - 1) :]
    assert list(new_in_response(said, [*repeated, *more])) == more
    assert list(new_in_response(said, more)) == more


# Requests
async def test_only_new_messages_are_saved_and_the_model_gets_the_stored_ones(
    store,
):
    rich = {**assistant("A"), "reasoning_content": "hm"}
    service = ScriptedService(rich, "B")
    chat = memory_over(store, whole_requests=True)(service)
    await chat({"messages": [SYSTEM, user("a")], "temperature": 0})
    posted = [SYSTEM, user("a"), {**assistant("A"), "id": "of the front end"}, user("b")]
    await chat({"messages": posted, "temperature": 0})
    assert service.requests[1] == {
        "messages": [SYSTEM, user("a"), rich, user("b")],
        "temperature": 0,
    }
    assert list(await store.load("s")) == [user("a"), rich, user("b"), assistant("B")]


async def test_a_window_applies_to_whole_requests_too(store):
    service = ScriptedService("A", "B", "C")
    chat = memory_over(store, whole_requests=True, window=LastTurns(1))(service)
    posted = []
    for text in "abc":
        posted.append(user(text))
        posted.append(assistant(await chat(posted)))
    assert service.requests[2] == [user("b"), assistant("B"), user("c")]
    assert list(await store.load("s")) == posted


async def test_the_first_request_may_contain_a_conversation_from_elsewhere(store):
    service = ScriptedService("B")
    posted = [user("a"), assistant("A"), user("b")]
    await memory_over(store, whole_requests=True)(service)(posted)
    assert service.requests == [posted]
    assert list(await store.load("s")) == [*posted, assistant("B")]


@pytest.mark.parametrize(
    ("stored", "posted"),
    [
        ("Hel\n\n(interrupted: this reply is not complete)", "Hel"),
        (
            [
                {"type": "text", "text": "Hel"},
                {"type": "text", "text": "(interrupted: this reply is not complete)"},
            ],
            "Hel",
        ),
        (None, ""),
        ("Hello.", " Hello.\n"),
        ("Hello\n\n(interrupted: this reply is not complete)", "Hel"),
        ("Hel\n\n(interrupted: this reply is not complete)", "Hello"),
    ],
)
def test_a_reply_as_a_front_end_shows_it_is_the_same_reply(stored, posted):
    held = [user("a"), {**assistant(stored), "tool_calls": []}]
    assert new_in_request("s", held, [user("a"), assistant(posted), user("b")]) == [user("b")]


def test_a_front_end_need_not_show_tools_and_reasoning():
    call = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
    held = [
        user("a"),
        {**assistant(None), "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "4"},
        {"type": "reasoning", "id": "rs", "summary": []},
        assistant("It is 4."),
    ]
    shown = [user("a"), assistant("It is 4.")]

    assert new_in_request("s", held, [*shown, user("b")]) == [user("b")]
    assert new_in_request("s", held, [*held, user("b")]) == [user("b")]
    assert new_in_request("s", held[:-1], [user("a"), user("b")]) == [user("b")]
    with pytest.raises(SessionConflict, match="item 1 of the request.* has other content"):
        new_in_request("s", held, [user("a"), assistant("It is 5."), user("b")])


CONTRADICTIONS = [
    (
        [user("x"), assistant("A"), user("b")],
        "item 0 of the request, instructions not counted, has other content",
    ),
    (
        [user("a"), assistant("x"), user("b")],
        "item 1 of the request, instructions not counted, has other content",
    ),
    (
        [user("a"), assistant(None), user("b")],
        "item 1 of the request, instructions not counted, has other content",
    ),
    ([user("b")], "item 0 of the request"),
    ([user("a")], "the session goes on where the request ends; items in the request: 1"),
    ([user("a"), assistant("A")], "no new items; items that the session has too: 2"),
    ([user("a"), user("A"), user("b")], "has the role 'user'; the session has 'assistant' there"),
]


@pytest.mark.parametrize(("posted", "message"), CONTRADICTIONS)
async def test_a_conversation_that_contradicts_the_stored_one_raises_before_the_model_call(
    store, posted, message
):
    await store.append(Turn("s", [user("a"), assistant("A")]))
    service = ScriptedService()
    with pytest.raises(SessionConflict, match=message) as caught:
        await memory_over(store, whole_requests=True)(service)(posted)
    assert (caught.value.session_id, caught.value.expected) == ("s", None)
    assert service.requests == []
    assert len(await store.load("s")) == 2


async def test_the_same_whole_request_again_is_the_same_turn(store):
    chat = memory_over(store, whole_requests=True, turn_id=lambda messages: str(len(messages)))
    await chat(ScriptedService("A"))([user("a")])
    with pytest.raises(TurnExists) as caught:
        await chat(ScriptedService())([user("a")])
    assert caught.value.items == (user("a"), assistant("A"))


async def test_stored_run_items_are_compared_in_the_spelling_of_the_dialect():
    call = ToolCallItem("1", "f", {}, "2026-01-01T00:00:00Z")
    posted = [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
        },
        user("b"),
    ]
    assert new_in_request("s", [call], posted) == [user("b")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", [{"type": "text", "text": "a"}]),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "image", "url": "x"}], [{"type": "image", "url": "x", "detail": "low"}]),
    ],
)
def test_content_is_compared_by_its_text_and_data(one, other):
    assert new_in_request("s", [user(one)], [user(other), user("b")]) == [user("b")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", [{"type": "text", "text": "b"}]),
        ("a", [{"type": "text", "text": "a"}, {"type": "image", "url": "x"}]),
        ([{"type": "image", "url": "x"}], [{"type": "image", "url": "y"}]),
        ([], [{"type": "image", "url": "y"}]),
        ([1], [2]),
    ],
)
def test_different_content_is_a_conflict(one, other):
    with pytest.raises(SessionConflict):
        new_in_request("s", [user(one)], [user(other), user("b")])


def test_items_with_nothing_in_common_are_not_the_same():
    with pytest.raises(SessionConflict):
        new_in_request("s", [{"a": 1}], [{"b": 1}, user("b")])
    assert new_in_request("s", [{}], [{}, user("b")]) == [user("b")]


@pytest.mark.parametrize("dialect", [AnthropicMessages(), OpenAIResponses()])
async def test_other_dialects_take_whole_requests_too(dialect):
    store = InMemorySessionStore()
    block = {"type": "message", "role": "assistant", "content": "A", "id": "x"}
    service = ScriptedService("A", block)
    chat = memory_over(store, dialect=dialect, whole_requests=True)(service)
    await chat([SYSTEM, user("a")])
    await chat([SYSTEM, user("a"), assistant("A"), user("b")])
    assert service.requests[1] == [SYSTEM, user("a"), assistant("A"), user("b")]
    assert len(await store.load("s")) == 4


async def test_pydantic_ais_dialect_takes_whole_requests_too():
    store = InMemorySessionStore()
    answer = pydantic_ai.ModelResponse([pydantic_ai.TextPart("A")])
    service = ScriptedService(answer, answer)
    chat = memory_over(store, dialect=PydanticAI(), whole_requests=True)(service)
    first = pydantic_ai.ModelRequest(
        [pydantic_ai.SystemPromptPart("Be brief."), pydantic_ai.UserPromptPart("a")]
    )
    await chat([first])
    second = pydantic_ai.ModelRequest.user_text_prompt("b")
    await chat([first, answer, second])
    system, *said = service.requests[1]

    assert system.parts == first.parts[:1]
    assert [message.parts for message in said] == [first.parts[1:], answer.parts, second.parts]
    assert len(await store.load("s")) == 4


def test_parameters_that_contradict_whole_requests_are_refused_by_name():
    store = InMemorySessionStore()

    class Dialect:
        new_items = with_history = reply_items = print

    with pytest.raises(TypeError, match="whole_requests needs a dialect with a method newest"):
        memory_over(store, dialect=Dialect(), whole_requests=True)
    with pytest.raises(ValueError, match="got a load with limit=40; leave it out"):
        MemoryLayer(
            LoadSession(store, limit=40), SaveSession(store), session_id="s", whole_requests=True
        )
