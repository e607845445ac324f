"""Rules for every dialect: the model gets valid conversations, and items are stored exactly."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from inspect import isfunction
from typing import Any

import pytest
from google.genai.types import Content
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai import messages as pydantic_ai

from helpers.json_values import JSON
from helpers.layers import memory_over
from helpers.messages import assert_valid_chat, calling, result, user
from helpers.runtimes import on_one_runtime
from helpers.windows import bounded_windows
from tower_memory import InMemorySessionStore, LoadSession, MemoryLayer, SaveSession, Turn
from tower_memory.dialects import (
    AnthropicMessages,
    ChatCompletions,
    GeminiContents,
    OpenAIResponses,
    PydanticAI,
)
from tower_memory.testing import ScriptedService
from tower_memory.windows import Summarised

ADAPTER = pydantic_ai.ModelMessagesTypeAdapter
NOW = "2026-01-01T00:00:00Z"


@dataclass(frozen=True)
class Language:
    """A dialect's spelling of messages, tool calls and results as items.

    ``check`` fails if a provider would refuse the messages that it is given.
    """

    dialect: Any
    user: Callable[[str], Any]
    answer: Callable[[str], Sequence[Any]]
    calls: Callable[[Sequence[str]], Sequence[Any]]
    results: Callable[[Sequence[str]], Sequence[Any]]
    check: Callable[[Sequence[Any]], None]
    spoken: Callable[[Sequence[Any]], Any] = list
    """The conversion of items to the messages of a request."""


def one_message(content):
    return [{"role": "assistant", "content": content}]


# Chat completions


def chat_calls(ids):
    return [calling(*ids)]


def chat_results(ids):
    return [result(each) for each in ids]


# Responses


def response_calls(ids):
    thought = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x"}
    calls = [
        {"type": "function_call", "id": "fc", "call_id": each, "name": "f", "arguments": "{}"}
        for each in ids
    ]
    return [thought, *calls]


def response_results(ids):
    return [{"type": "function_call_output", "call_id": each, "output": "4"} for each in ids]


def response_answer(text):
    content = [{"type": "output_text", "text": text}]
    thought = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x"}
    return [thought, {"type": "message", "id": "msg", "role": "assistant", "content": content}]


def check_responses(items):
    # The items of a response are cut off together with their reasoning.
    assert items[0]["role"] == "user"

    waiting, thinking = set(), False
    for item in items:
        kind = item.get("type")
        if thinking:
            assert kind in ("reasoning", "function_call", "message"), "nothing came of reasoning"
        thinking = kind == "reasoning"

        if kind == "function_call":
            waiting.add(item["call_id"])
        elif kind == "function_call_output":
            waiting.remove(item["call_id"])
        elif item.get("role") == "user":
            assert not waiting

    assert not waiting
    assert not thinking


# Anthropic


def blocks_of_calls(ids):
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "x"}
    calls = [{"type": "tool_use", "id": each, "name": "f", "input": {}} for each in ids]
    return [{"role": "assistant", "content": [thought, *calls]}]


def block_of_results(ids):
    blocks = [{"type": "tool_result", "tool_use_id": each, "content": "4"} for each in ids]
    return [{"role": "user", "content": blocks}] if ids else []


def check_anthropic(messages):
    assert messages[0]["role"] == "user"

    waiting = set()
    for message in messages:
        content = message["content"]
        assert content
        blocks = content if isinstance(content, list) else []
        results = [each["tool_use_id"] for each in blocks if each["type"] == "tool_result"]
        assert set(results) == waiting, "all results, and no others, follow the calls at once"
        assert len(results) == len(set(results))
        assert all(each["type"] == "tool_result" for each in blocks[: len(results)])
        waiting = {each["id"] for each in blocks if each["type"] == "tool_use"}

    assert not waiting


# pydantic-ai


def request(*parts):
    return [{"kind": "request", "parts": list(parts)}] if parts else []


def model_response(*parts):
    return [{"kind": "response", "parts": list(parts), "timestamp": NOW}]


def part_calls(ids):
    return model_response(
        *(
            {"part_kind": "tool-call", "tool_name": "f", "args": "{}", "tool_call_id": each}
            for each in ids
        )
    )


def part_results(ids):
    return request(
        *(
            {
                "part_kind": "tool-return",
                "tool_name": "f",
                "content": "4",
                "tool_call_id": each,
                "timestamp": NOW,
            }
            for each in ids
        )
    )


def check_pydantic_ai(messages):
    waiting = set()
    for message in messages:
        assert message.parts
        kinds = [part.part_kind for part in message.parts]
        results = [p.tool_call_id for p in message.parts if p.part_kind == "tool-return"]
        assert set(results) == waiting
        assert kinds[: len(results)] == ["tool-return"] * len(results)
        waiting = {p.tool_call_id for p in message.parts if p.part_kind == "tool-call"}
    assert not waiting


# Gemini


def model_content(*parts):
    return [{"role": "model", "parts": list(parts)}]


def gemini_calls(ids):
    calls = [{"functionCall": {"id": each, "name": "f", "args": {"x": 1}}} for each in ids]
    return model_content({**calls[0], "thoughtSignature": "YQ=="}, *calls[1:])


def gemini_results(ids):
    parts = [
        {"functionResponse": {"id": each, "name": "f", "response": {"output": 4}}} for each in ids
    ]
    return [{"role": "user", "parts": parts}] if ids else []


def as_objects(contents):
    return list(map(Content.model_validate, contents))


def check_gemini(contents):
    waiting, before = [], None
    for content in as_objects(contents):
        assert content.parts
        if before is None:
            assert content.role == "user"
        calls = [part.function_call.id for part in content.parts if part.function_call]
        results = [part.function_response.id for part in content.parts if part.function_response]
        assert results == waiting, "all results, and no others, follow the calls at once, in order"
        assert not results or len(results) == len(content.parts)
        assert not calls or before == "user"
        assert not calls or content.parts[0].thought_signature == b"a"
        waiting, before = calls, content.role

    assert not waiting


GEMINI = Language(
    GeminiContents(),
    lambda text: {"role": "user", "parts": [{"text": text}]},
    lambda text: model_content({"text": text, "thoughtSignature": "YQ=="}),
    gemini_calls,
    gemini_results,
    check_gemini,
)

LANGUAGES = {
    "chat completions": Language(
        ChatCompletions(),
        user,
        one_message,
        chat_calls,
        chat_results,
        assert_valid_chat,
    ),
    "responses": Language(
        OpenAIResponses(),
        user,
        response_answer,
        response_calls,
        response_results,
        check_responses,
    ),
    "anthropic": Language(
        AnthropicMessages(),
        user,
        one_message,
        blocks_of_calls,
        block_of_results,
        check_anthropic,
    ),
    "gemini": GEMINI,
    "gemini, objects": replace(GEMINI, spoken=as_objects),
    "pydantic-ai": Language(
        PydanticAI(),
        lambda text: request({"part_kind": "user-prompt", "content": text, "timestamp": NOW})[0],
        lambda text: model_response({"part_kind": "text", "content": text}),
        part_calls,
        part_results,
        check_pydantic_ai,
        ADAPTER.validate_python,
    ),
}


@pytest.fixture(params=LANGUAGES)
def language(request):
    return LANGUAGES[request.param]


# Conversations


@dataclass(frozen=True)
class Exchange:
    """An exchange: rounds of tool calls, of which some in the last round have no result.

    An answer follows the rounds, unless `answered` is false or a result is missing.
    """

    rounds: Sequence[int]
    unanswered: int
    answered: bool


exchanges = st.builds(
    Exchange,
    st.lists(st.integers(1, 3), max_size=3),
    st.integers(0, 3),
    st.booleans(),
)


def spoken(language, conversation):
    """Return the items of each exchange, and the calls of the last exchange without a result."""
    ids = iter(range(10**6))
    turns, waiting = [], []

    for number, exchange in enumerate(conversation):
        items = [language.user(f"question {number}")]
        for round_number, calls in enumerate(exchange.rounds, start=1):
            made = [str(next(ids)) for _ in range(calls)]
            is_last = round_number == len(exchange.rounds)
            answered = made[: max(0, calls - exchange.unanswered)] if is_last else made
            items += [*language.calls(made), *language.results(answered)]
            waiting = made[len(answered) :]

        if not exchange.rounds:
            waiting = []
        if exchange.answered and not waiting:
            items += language.answer(f"answer {number}")
        turns.append(items)

    return turns, waiting


async def asked(language, turns, messages, window=None, **parameters):
    """Store *turns*, send *messages*, and return the messages that the model gets.

    *window* is a window, or a function of the store that returns one.
    """
    store = InMemorySessionStore()
    if isfunction(window):
        window = window(store)
    for items in turns:
        await store.append(Turn("s", items))
    service = ScriptedService("ok")

    class Dialect:
        new_items = staticmethod(language.dialect.new_items)
        with_history = staticmethod(language.dialect.with_history)

        @staticmethod
        def reply_items(_request, _response):
            return []

    layer = MemoryLayer(
        LoadSession(store, limit=parameters.pop("limit", None)),
        SaveSession(store),
        session_id="s",
        dialect=Dialect(),
        window=window,
        **parameters,
    )
    await layer(service)(messages)
    (given,) = service.requests
    return given


@on_one_runtime
@pytest.mark.parametrize("name", LANGUAGES)
@given(
    conversation=st.lists(exchanges, max_size=5),
    window=st.none() | bounded_windows,
    late=st.integers(0, 3),
    said=st.booleans(),
)
async def test_the_model_gets_a_valid_conversation_for_every_session_and_window(
    name, conversation, window, late, said
):
    language = LANGUAGES[name]
    turns, waiting = spoken(language, conversation)
    new = [*language.results(waiting[:late])]
    if said or not new:
        new.append(language.user("new"))
    messages = language.spoken(new)
    before = copy.deepcopy(messages)
    given = await asked(language, turns, messages, window=window)
    language.check(given)

    assert messages == before
    assert list(given[-1:]) == list(messages[-1:]) or (late and not said)

    # A second repair changes nothing.
    again = language.dialect.with_history(messages[-1:], []) if said else None
    assert again is None or list(again) == list(messages[-1:])


@on_one_runtime
@pytest.mark.parametrize("name", LANGUAGES)
@settings(max_examples=30)
@given(
    conversation=st.lists(exchanges, min_size=2, max_size=6),
    bounds=st.fixed_dictionaries(
        {
            "keep": bounded_windows,
            "every": st.integers(1, 2),
            "max_input_tokens": st.integers(1, 200),
        }
    ),
    late=st.integers(0, 3),
    by_item=st.booleans(),
)
async def test_the_model_and_the_summariser_get_valid_conversations(
    name, conversation, bounds, late, by_item
):
    """A turn is an exchange, or a single item."""
    language = LANGUAGES[name]
    turns, waiting = spoken(language, conversation)
    if by_item:
        turns = [[item] for items in turns for item in items]
    summarise = ScriptedService(*["a summary"] * len(turns))

    def window(store):
        return Summarised(summarise, store=store, item=language.user, **bounds)

    new = language.spoken([*language.results(waiting[:late]), language.user("new")])
    given = await asked(language, turns, new, window=window)
    language.check(given)

    for items in summarise.requests:
        question = language.spoken([language.user("summarise")])
        language.check(language.dialect.with_history(question, items))


@on_one_runtime
@pytest.mark.parametrize("name", LANGUAGES)
@given(conversation=st.lists(exchanges, max_size=5), limit=st.integers(0, 20))
async def test_the_model_gets_a_valid_conversation_wherever_a_limit_cuts(name, conversation, limit):
    language = LANGUAGES[name]
    turns, _ = spoken(language, conversation)
    given = await asked(language, turns, language.spoken([language.user("new")]), limit=limit)
    language.check(given)


@pytest.mark.parametrize("name", LANGUAGES)
@given(conversation=st.lists(exchanges, max_size=5))
def test_a_repaired_conversation_is_not_changed_again(name, conversation):
    language = LANGUAGES[name]
    turns, _ = spoken(language, conversation)
    new = language.spoken([language.user("new")])
    once = language.dialect.with_history(new, [item for items in turns for item in items])
    items = language.dialect.new_items(once)
    twice = language.dialect.with_history(new, items[:-1])
    assert language.dialect.new_items(twice) == items


@pytest.mark.parametrize("name", LANGUAGES)
@given(conversation=st.lists(exchanges, max_size=5))
def test_a_valid_conversation_is_not_changed(name, conversation):
    language = LANGUAGES[name]
    whole = [Exchange(exchange.rounds, 0, answered=True) for exchange in conversation]
    turns, _ = spoken(language, whole)
    items = [item for turn in turns for item in turn]
    new = language.spoken([language.user("new")])
    given = language.dialect.with_history(new, items)
    assert list(given) == [*language.spoken(items), *new]


class Mapped(dict):
    """A message of an uncommon class, which the fast check does not accept."""


@given(conversation=st.lists(exchanges, max_size=5), cut=st.integers(0, 8), data=st.data())
def test_the_fast_check_of_a_conversation_agrees_with_the_full_repair(conversation, cut, data):
    language = LANGUAGES["chat completions"]
    turns, _ = spoken(language, conversation)
    items = [item for items in turns for item in items][cut:]

    if items:
        odd = st.fixed_dictionaries(
            {}, optional={"role": JSON, "content": JSON, "tool_calls": JSON, "tool_call_id": JSON}
        )
        place = data.draw(st.integers(0, len(items) - 1))
        items[place] = {**items[place], **data.draw(odd)}

    new = [{"role": "user", "content": "new"}]

    def given_to_the_model(kind):
        try:
            return language.dialect.with_history(new, list(map(kind, items)))
        except (TypeError, ValueError) as error:
            return type(error)

    assert given_to_the_model(dict) == given_to_the_model(Mapped)


# Exact storage


extras = st.dictionaries(
    st.text().map("x{}".format)  # no name that tells the kind of the reply
    | st.sampled_from(["id", "type", "parts", "kind", "name", "call_id"]),
    JSON,
)


@on_one_runtime
@pytest.mark.parametrize("name", ["chat completions", "responses", "anthropic", "gemini"])
@given(extra=extras, content=JSON)
async def test_messages_are_stored_and_sent_back_exactly(name, extra, content):
    """All other fields of requests and replies come back unchanged."""
    dialect = LANGUAGES[name].dialect
    message = {**extra, "role": "user", "content": [content]}
    if name == "anthropic":
        message = {"role": "user", "content": [{**extra, "type": "future", "x": content}]}
    if name == "gemini":
        message = {
            "role": "user",
            "parts": [{"futurePart": [1], "partMetadata": {**extra, "x": content}}],
        }
    if name == "responses":
        message = {**extra, "type": "future_item", "x": content}
    if name == "responses":
        message.pop("call_id", None)  # a field of tool calls only
    store = InMemorySessionStore()
    reply = {**message, "role": "assistant"} if name != "responses" else message
    answer = {"output": [reply]} if name == "responses" else reply
    if name == "gemini":
        reply = {**message, "role": "model"}
        answer = {"candidates": [{"content": reply}]}
    service = ScriptedService(answer, "ok")
    layer = memory_over(store, dialect=dialect)
    first = copy.deepcopy(message)
    await layer(service)([message])
    new = LANGUAGES[name].user("new")
    await layer(service)([new])

    assert message == first
    assert service.requests[0] == [message]
    assert service.requests[1] == [message, reply, new]


# Bad input


@pytest.mark.parametrize(
    "name", ["chat completions", "anthropic", "gemini", "pydantic-ai", "responses"]
)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, "request"),
        ({}, "request"),
        ([], "must have at least one"),
        ([3], r"\[0\] must be"),
        ({"messages": 3, "input": 3, "contents": 3}, "must be a list"),
        ({"messages": [], "input": [], "contents": []}, "must have at least one"),
    ],
)
def test_a_request_of_an_unknown_shape_is_refused_with_its_type(name, bad, message):
    dialect = LANGUAGES[name].dialect
    with pytest.raises((TypeError, ValueError), match=message):
        # Anthropic's messages may go on without a new message, which the history decides.
        dialect.with_history(bad, dialect.new_items(bad))


@pytest.mark.parametrize("name", LANGUAGES)
@pytest.mark.parametrize("bad", [None, 3, object(), {"neither": 1}, [3], []])
def test_a_response_of_an_unknown_shape_is_refused_with_its_type(name, bad):
    language = LANGUAGES[name]
    request = language.spoken([language.user("new")])
    with pytest.raises((TypeError, ValueError), match="response.* must"):
        language.dialect.reply_items(request, bad)


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_result_without_a_call_is_an_error(name):
    language = LANGUAGES[name]
    with pytest.raises(ValueError, match="a result of the tool call '1', for which no call"):
        language.dialect.with_history(
            language.spoken(language.results(["1"])), [language.user("a")]
        )
