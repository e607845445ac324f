"""The chat completions dialect: requests and responses to items, and back."""

from __future__ import annotations

import copy
from collections import UserDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType, SimpleNamespace
from typing import Any, Literal

import msgspec
import pydantic
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionMessage

from helpers.internals import ItemCodec
from helpers.messages import SYSTEM, assistant, calling, result, user
from helpers.validators import check_mistral
from tower_memory import (
    HandoffItem,
    Message,
    MessageItem,
    Role,
    ToolCallItem,
    ToolOutputItem,
    UnencodableItemError,
)
from tower_memory.dialects import ChatCompletions

CHAT = ChatCompletions()
DEVELOPER = {"role": "developer", "content": "Answer in French."}
HISTORY = [user("a"), assistant("b")]


@dataclass
class Plain:
    messages: list
    temperature: float = 0.5
    seen: list = field(default_factory=list, init=False)


@dataclass(frozen=True, slots=True)
class Frozen:
    messages: list
    temperature: float = 0.5


class Struct(msgspec.Struct, frozen=True):
    messages: list
    temperature: float = 0.5


class Pydantic(pydantic.BaseModel):
    messages: list
    temperature: float = 0.5


REQUESTS = [
    lambda messages: {"messages": messages, "temperature": 0.5},
    lambda messages: MappingProxyType({"messages": messages, "temperature": 0.5}),
    Plain,
    Frozen,
    Struct,
    lambda messages: Pydantic(messages=messages),
]


@pytest.mark.parametrize(
    "make", REQUESTS, ids=["dict", "mapping", "dataclass", "frozen", "Struct", "pydantic"]
)
def test_a_request_of_any_kind_is_given_the_history_and_keeps_the_rest(make):
    request = make([SYSTEM, user("new")])
    before = copy.deepcopy(dict(request) if isinstance(request, MappingProxyType) else request)
    hydrated = CHAT.with_history(request, HISTORY)
    read = dict if isinstance(request, (dict, MappingProxyType)) else vars

    try:
        fields = read(hydrated)
    except TypeError:  # a class with slots has no vars()
        fields = {name: getattr(hydrated, name) for name in ("messages", "temperature")}

    assert fields["messages"] == [SYSTEM, *HISTORY, user("new")]
    assert fields["temperature"] == 0.5
    assert before == request
    assert CHAT.new_items(request) == [user("new")]


def test_a_request_that_is_the_list_of_messages_stays_one():
    assert CHAT.with_history([user("new")], HISTORY) == [*HISTORY, user("new")]
    assert CHAT.with_history((user("new"),), HISTORY) == [*HISTORY, user("new")]


def test_a_field_outside_the_constructor_survives():
    request = Plain([user("new")])
    request.seen.append("by hand")
    assert CHAT.with_history(request, HISTORY).seen == ["by hand"]


def test_instructions_stay_in_front_and_are_not_stored():
    request = [SYSTEM, DEVELOPER, user("new")]
    assert CHAT.new_items(request) == [user("new")]
    assert CHAT.with_history(request, HISTORY) == [SYSTEM, DEVELOPER, *HISTORY, user("new")]


def test_several_new_messages_are_all_new_in_order():
    request = [user("a"), assistant("b"), user("c")]
    assert CHAT.new_items(request) == request


# Messages that are objects
class Said(pydantic.BaseModel):
    role: str = "user"
    content: Any


@dataclass
class Dataclass:
    role: str
    content: str


@pytest.mark.parametrize(
    "message",
    [
        Said(content="new"),
        Dataclass("user", "new"),
        Message("user", "new"),
        UserDict(user("new")),
        user("new"),
    ],
)
def test_messages_of_any_kind_become_the_same_item(message):
    assert CHAT.new_items([message]) == [user("new")]


@pytest.mark.parametrize("kind", [Said, Dataclass, Message])
def test_the_history_is_converted_to_the_class_of_the_new_messages(kind):
    request = [kind(role="user", content="new")]
    hydrated = CHAT.with_history(request, HISTORY)
    assert [type(message) for message in hydrated] == [kind] * 3
    assert [message.content for message in hydrated] == ["a", "b", "new"]
    assert hydrated[-1] is request[0]


@pytest.mark.parametrize("content", [None, "Let me see."])
def test_a_history_that_the_message_class_cannot_hold_is_an_error(content):
    history = [{**calling("1"), "content": content}, result("1")]
    with pytest.raises(TypeError, match="Dataclass cannot hold a message of the history"):
        CHAT.with_history([Dataclass("user", "new")], history)


def test_a_class_may_lack_fields_that_are_empty():
    history = [{**assistant("b"), "refusal": None, "annotations": []}]
    assert CHAT.with_history([Dataclass("user", "new")], history)[0] == Dataclass("assistant", "b")


def test_a_message_of_no_known_kind_is_refused():
    with pytest.raises(TypeError, match="a message must be a mapping, .* got SimpleNamespace"):
        CHAT.new_items([SimpleNamespace(role="user", content="new")])


def test_run_items_in_the_history_are_spelled_as_chat_messages():
    time = datetime(2026, 1, 1, tzinfo=UTC)
    items = [
        MessageItem("m", Role.USER, "a", time),
        ToolCallItem("1", "f", {}, time),
        ToolOutputItem("o", "1", "done", None, time),
        HandoffItem("h", "a", "b", None, time),
    ]
    spelled = [user("a"), calling("1"), result("1"), user("new")]
    assert CHAT.with_history([user("new")], items) == spelled
    assert CHAT.with_history([user("new")], msgspec.to_builtins(items)) == spelled


def test_a_run_items_assistant_message_and_its_tool_calls_are_one_chat_message():
    time = datetime(2026, 1, 1, tzinfo=UTC)

    def items(text):
        return [
            MessageItem("m1", Role.USER, "a", time),
            MessageItem("m2", Role.ASSISTANT, text, time),
            ToolCallItem("1", "f", {}, time),
            HandoffItem("h", "a", "b", None, time),
            ToolCallItem("2", "f", {}, time),
            ToolOutputItem("o1", "1", "done", None, time),
            ToolOutputItem("o2", "2", "done", None, time),
            MessageItem("m3", Role.ASSISTANT, "b", time),
        ]

    for text in ("", "Let me see"):
        sent = CHAT.with_history([user("new")], items(text))
        called = {**calling("1", "2"), "content": text or None}
        reply = [called, result("1"), result("2"), assistant("b")]
        assert sent == [user("a"), *reply, user("new")]
        check_mistral(sent)


def test_a_request_may_mix_mappings_and_objects_of_the_client():
    message = ChatCompletionMessage(
        role="assistant", content=None, tool_calls=calling("1")["tool_calls"]
    )
    request = [user("new"), message, result("1")]
    assert CHAT.new_items(request) == [user("new"), calling("1"), result("1")]
    spelled = {"role": "assistant", "content": None, "tool_calls": message.tool_calls}
    assert CHAT.new_items([spelled]) == [calling("1")]
    assert CHAT.with_history(request, HISTORY) == [*HISTORY, *request]


class Part(pydantic.BaseModel):
    type: Literal["text"] = "text"
    text: str


def test_constant_defaults_of_a_class_are_stored_and_unset_fields_are_not():
    class Model(pydantic.BaseModel):
        role: Literal["user"] = "user"
        content: list[Part]
        name: str | None = None
        refusal: str | None = None

    message = Model(content=[Part(text="new")], refusal=None)
    assert CHAT.new_items([message]) == [
        {"role": "user", "content": [{"type": "text", "text": "new"}], "refusal": None}
    ]

    class Omitting(msgspec.Struct, omit_defaults=True):
        content: str
        role: str = "user"

    assert CHAT.new_items([Omitting("new")]) == [user("new")]


@pytest.mark.parametrize("value", [b"bytes", {1}, (1,), {1: 2}, float("nan")])
@pytest.mark.parametrize("kind", [Said, Message])
def test_a_value_that_json_cannot_hold_is_not_converted(kind, value):
    (item,) = CHAT.new_items([kind(role="user", content=[value])])
    with pytest.raises(UnencodableItemError):
        ItemCodec(Any).encode([item], "s")


# Responses
MESSAGE = {**calling("1"), "content": "Hm", "reasoning_content": "vendor", "extra": {"n": [1]}}
COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": MESSAGE}],
}


@pytest.mark.parametrize(
    "response",
    [
        COMPLETION,
        ChatCompletion.model_validate(COMPLETION),
        MESSAGE,
        ChatCompletionMessage.model_validate(MESSAGE),
        {"messages": [MESSAGE]},
        {"messages": [SYSTEM, user("new"), MESSAGE]},
    ],
)
def test_a_reply_of_any_kind_is_stored_as_the_provider_sent_it(response):
    assert CHAT.reply_items([SYSTEM, user("new")], response) == [MESSAGE]


def test_a_reply_that_is_text_is_an_assistants_message():
    assert CHAT.reply_items([user("new")], "Hello") == [assistant("Hello")]


def test_the_request_of_a_whole_response_must_have_messages():
    response = {"messages": [assistant("Hello")]}
    with pytest.raises(TypeError, match=r"request\.messages must be a list of messages, got str"):
        ChatCompletions().reply_items({"messages": "Hi"}, response)


def test_only_new_messages_of_a_whole_conversation_are_stored():
    request = [SYSTEM, *HISTORY, user("new")]
    new = [calling("1"), result("1"), assistant("done")]
    assert CHAT.reply_items(request, {"messages": [*request, *new]}) == new
    assert CHAT.reply_items(request, {"messages": new}) == new


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (None, "got NoneType; write a dialect"),
        (b"bytes", "got bytes"),
        ({"choices": []}, r"response\.choices must have at least one message, got none"),
        ({"choices": [{"text": "completion"}]}, r"response\.choices\[0\] must be a message"),
        ({"choices": [{"message": None}]}, r"response\.choices\[0\] must be a message"),
        ({"choices": None}, r"response\.choices must be a list of messages, got None"),
        ({"messages": []}, r"response\.messages must have at least one"),
        ({"messages": "Hi"}, r"response\.messages must be a list"),
    ],
)
def test_a_response_of_an_unknown_shape_is_refused_with_its_type(response, message):
    with pytest.raises((TypeError, ValueError), match=message):
        CHAT.reply_items([user("new")], response)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (None, "request must be a list of messages or have messages, got NoneType"),
        ("Hi", "request must be a list of messages or have messages, got str"),
        ({"prompt": "Hi"}, "got dict"),
        ({"messages": "Hi"}, r"request\.messages must be a list of messages, got str"),
        ([], r"request\.messages must have at least one message, got none"),
        ([user("a"), {"content": "b"}], r"request\.messages\[1\] must be a message with a role"),
        (["Hi"], r"request\.messages\[0\] must be a message with a role, got str"),
    ],
)
def test_a_request_of_an_unknown_shape_is_refused_with_its_type(request_, message):
    for function in (CHAT.new_items, lambda request: CHAT.with_history(request, [])):
        with pytest.raises((TypeError, ValueError), match=message):
            function(request_)


def test_a_message_class_may_rename_its_fields():
    class Aliased(pydantic.BaseModel):
        role: str
        content: str
        finish_reason: str | None = pydantic.Field(None, alias="finishReason")

    class Renamed(msgspec.Struct, rename="camel", omit_defaults=True):
        role: str
        content: str
        finish_reason: str | None = None

    history = [{**assistant("b"), "finishReason": "stop"}]
    for kind in (Aliased, Renamed):
        past, _ = CHAT.with_history([kind(role="user", content="new")], history)
        assert past.finish_reason == "stop"
        assert CHAT.new_items([past]) == history


def test_only_new_messages_are_stored_if_the_response_adds_ids_to_all():
    said = [*HISTORY, user("new"), assistant("done")]
    numbered = [{**message, "id": n} for n, message in enumerate(said)]
    assert CHAT.reply_items([user("new")], {"messages": numbered}) == numbered[3:]
