"""Rules of chat completions for a conversation that is sent back to the provider.

The rules are those of the provider's documentation, and of the request types of its client.
"""

from __future__ import annotations

import msgspec
import pydantic
import pytest
from openai.types.chat import ChatCompletionMessage

from helpers.messages import NEW, assistant, user
from tower_memory.dialects import ChatCompletions
from tower_memory.dialects.toolkit import EMPTY_MESSAGE


def chat(history, new=NEW):
    return ChatCompletions().with_history(new, history)[: -len(new)]


def test_audio_of_a_provider_is_sent_back_by_its_id():
    spoken = {**assistant(None), "audio": {"id": "a", "data": "xyz", "transcript": "Hi"}}
    assert chat([user("a"), spoken]) == [user("a"), {**assistant(None), "audio": {"id": "a"}}]
    assert ChatCompletions().reply_items(NEW, spoken) == [spoken]


def test_an_empty_reply_is_sent_back_with_a_text_that_says_so():
    thought = {**assistant(None), "reasoning_content": "Hm"}
    assert chat([user("a"), thought]) == [user("a"), {**thought, "content": EMPTY_MESSAGE}]
    refused = {**assistant(None), "refusal": "No."}
    assert chat([user("a"), refused]) == [user("a"), {**assistant("No."), "refusal": None}]


def test_fields_that_client_libraries_add_to_a_reply_are_not_sent_back():
    added = {"function_call": None, "audio": None, "annotations": None, "tool_calls": None}
    message = ChatCompletionMessage(**assistant("b"), **added)
    assert ChatCompletions().reply_items(NEW, message) == [assistant("b")]
    numbered = {**assistant(None), "tool_calls": [{"id": "1", "index": 0}, "odd"]}
    assert ChatCompletions().reply_items(NEW, numbered)[0]["tool_calls"] == [{"id": "1"}, "odd"]
    # A message of the caller is not changed.
    assert ChatCompletions().new_items([numbered]) == [numbered]
    assert ChatCompletions().reply_items(NEW, {"message": assistant("b")}) == [assistant("b")]


def test_a_custom_class_may_have_a_field_that_clients_add_to_theirs():
    class Said(pydantic.BaseModel):
        role: str
        content: str
        parsed: str

    message = Said(role="user", content="a", parsed="b")
    assert ChatCompletions().new_items([message]) == [{**user("a"), "parsed": "b"}]


class Function(msgspec.Struct):
    name: str


class Call(msgspec.Struct):
    id: str
    type: str
    function: Function


class Said(msgspec.Struct):
    role: str
    content: str | None = None
    tool_calls: list[Call] = []


def test_a_nested_field_that_a_class_would_lose_is_an_error():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    with pytest.raises(TypeError, match=r"it has no 'tool_calls\[0\].function.arguments'"):
        chat([{**assistant(None), "tool_calls": [call]}], [Said("user", "a")])
    with pytest.raises(TypeError, match="it has no 'reasoning_content'"):
        chat([{**assistant("a"), "reasoning_content": ""}], [Said("user", "a")])
