"""The text of the messages in an item of any dialect."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.internals import message_text, turn_text
from helpers.json_values import JSON
from tower_memory import HandoffItem, Message, MessageItem, Role, ToolCallItem, ToolOutputItem

NO = "no text"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
DATA_URL = "data:image/png;base64,AAAA"


def anthropic(*blocks):
    return {"role": "user", "content": list(blocks)}


def gemini(*parts):
    return {"role": "user", "parts": list(parts)}


def agent_framework(*contents):
    return {"type": "message", "role": "assistant", "author_name": NO, "contents": list(contents)}


def pydantic_ai(*parts, kind="request"):
    return {"kind": kind, "run_id": NO, "parts": list(parts)}


ITEMS = {
    "a string": ("Hi", "Hi"),
    "chat": ({"role": "user", "name": NO, "content": "Hi"}, "Hi"),
    "LangChain": (
        {"type": "human", "data": {"content": "Hi", "id": NO, "response_metadata": {"x": NO}}},
        "Hi",
    ),
    "LangChain, blocks": (
        {
            "type": "ai",
            "data": {
                "content": [
                    {"type": "reasoning", "reasoning": NO},
                    "One",
                    {"type": "text", "text": "two"},
                    {"type": "text-plain", "text": "three", "mime_type": "text/plain"},
                    {"type": "server_tool_result", "tool_call_id": NO, "output": {"a": "four"}},
                    {"type": "image", "base64": NO},
                    {"type": "tool_call", "name": NO, "args": {"a": NO}, "id": NO},
                ]
            },
        },
        "One\ntwo\nthree\nfour",
    ),
    "LangChain, a tool": (
        {"type": "tool", "data": {"content": "5 degrees", "tool_call_id": NO, "artifact": NO}},
        "5 degrees",
    ),
    "LangChain, without fields": ({"type": "human", "data": NO}, ""),
    "chat, parts": (
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "One"},
                {"type": "image_url", "image_url": {"url": NO}},
                {"type": "input_audio", "input_audio": {"data": NO}},
                "two",
            ],
        },
        "One\ntwo",
    ),
    "chat, a call": (
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": NO,
            "tool_calls": [{"id": NO, "function": {"name": NO, "arguments": NO}}],
        },
        "",
    ),
    "chat, a refusal": ({"role": "assistant", "content": None, "refusal": "I can't."}, "I can't."),
    "chat, speech": (
        {"role": "assistant", "audio": {"id": NO, "data": NO, "transcript": "Hello"}},
        "Hello",
    ),
    "chat, a tool result": ({"role": "tool", "tool_call_id": NO, "content": "Sunny"}, "Sunny"),
    "chat, a picture as text": ({"role": "tool", "content": DATA_URL}, ""),
    "chat, reasoning in parts": (
        {"role": "assistant", "content": [{"type": "thinking", "thinking": [{"text": NO}]}]},
        "",
    ),
    "anthropic": (
        anthropic(
            {"type": "thinking", "thinking": NO, "signature": NO},
            {"type": "redacted_thinking", "data": NO},
            {"type": "text", "text": "Hi", "citations": [{"cited_text": NO}]},
            {"type": "tool_use", "id": NO, "name": NO, "input": {"text": NO}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": NO}},
        ),
        "Hi",
    ),
    "anthropic, documents": (
        anthropic(
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "A"},
            },
            {
                "type": "document",
                "source": {"type": "content", "content": [{"type": "text", "text": "B"}]},
            },
            {"type": "document", "source": {"type": "base64", "media_type": NO, "data": NO}},
            {"type": "search_result", "source": NO, "content": [{"type": "text", "text": "C"}]},
        ),
        "A\nB\nC",
    ),
    "anthropic, tool results": (
        anthropic(
            {"type": "tool_result", "tool_use_id": NO, "content": "Sunny"},
            {
                "type": "tool_result",
                "tool_use_id": NO,
                "content": [
                    {"type": "text", "text": "Warm"},
                    {"type": "image", "source": {"type": "base64", "data": NO}},
                    {"type": "tool_reference", "tool_name": NO},
                ],
            },
        ),
        "Sunny\nWarm",
    ),
    "anthropic, its own tools": (
        anthropic(
            {"type": "server_tool_use", "id": NO, "name": NO, "input": {"query": NO}},
            {
                "type": "web_search_tool_result",
                "tool_use_id": NO,
                "content": [
                    {
                        "type": "web_search_result",
                        "title": "News",
                        "url": NO,
                        "encrypted_content": NO,
                    }
                ],
            },
            {
                "type": "bash_code_execution_tool_result",
                "content": {
                    "type": "bash_code_execution_result",
                    "stdout": "42",
                    "content": [{"type": NO, "file_id": NO}],
                },
            },
            {
                "type": "web_fetch_tool_result",
                "content": {
                    "url": NO,
                    "content": {
                        "type": "document",
                        "source": {"type": "text", "media_type": NO[:0], "data": "Page"},
                    },
                },
            },
        ),
        "News\n42\nPage",
    ),
    "agent-framework": (
        agent_framework(
            {"type": "text", "text": "Hi", "additional_properties": {"text": NO}},
            {"type": "text_reasoning", "text": NO},
            {"type": "function_call", "call_id": NO, "name": NO, "arguments": NO},
            {"type": "data", "uri": DATA_URL, "media_type": "image/png"},
            {"type": "text", "text": "there"},
        ),
        "Hi\nthere",
    ),
    "agent-framework, tool results": (
        agent_framework(
            {
                "type": "function_result",
                "call_id": NO,
                "result": "Sunny",
                "items": [{"type": "text", "text": NO}],  # the same text
            },
            {"type": "search_tool_result", "call_id": NO, "tool_name": NO, "result": ["News"]},
            {"type": "mcp_server_tool_result", "output": [{"type": "text", "text": "Page"}]},
            {"type": "code_interpreter_tool_result", "outputs": [{"type": "text", "text": "42"}]},
            {
                "type": "shell_tool_result",
                "outputs": [{"type": "shell_command_output", "stdout": "a.txt", "exit_code": 0}],
            },
            {"type": "image_generation_tool_result", "outputs": {"uri": DATA_URL}},
        ),
        "Sunny\nNews\nPage\n42\na.txt",
    ),
    "responses": (
        {
            "type": "message",
            "id": NO,
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "Hi", "annotations": [{"url": NO}]},
                {"type": "refusal", "refusal": "No."},
            ],
        },
        "Hi\nNo.",
    ),
    "responses, input": (
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "image_url": DATA_URL},
                {"type": "input_file", "file_data": NO, "filename": NO},
            ],
        },
        "Look",
    ),
    "responses, reasoning": (
        {"type": "reasoning", "id": NO, "summary": [{"type": "summary_text", "text": NO}]},
        "",
    ),
    "responses, a call": (
        {"type": "function_call", "call_id": NO, "name": NO, "arguments": NO},
        "",
    ),
    "responses, a result": (
        {"type": "function_call_output", "call_id": NO, "output": "Sunny"},
        "Sunny",
    ),
    "responses, a result of parts": (
        {
            "type": "function_call_output",
            "output": [
                {"type": "input_text", "text": "Warm"},
                {"type": "input_image", "image_url": NO, "file_id": NO},
                {"type": "input_file", "file_data": NO},
            ],
        },
        "Warm",
    ),
    "responses, a shell": (
        {
            "type": "shell_call_output",
            "call_id": NO,
            "output": [{"stdout": "a.txt", "stderr": "", "outcome": {"type": NO, "exit_code": 0}}],
        },
        "a.txt",
    ),
    "responses, a file search": (
        {
            "type": "file_search_call",
            "queries": [NO],
            "results": [{"file_id": NO, "score": 1, "text": "Found"}],
        },
        "Found",
    ),
    "responses, a screenshot": (
        {"type": "computer_call_output", "output": {"image_url": NO}},
        "",
    ),
    "gemini": (
        gemini(
            {"text": "Hi", "thoughtSignature": NO},
            {"text": NO, "thought": True},
            {"inlineData": {"mimeType": "image/png", "data": NO}},
            {"fileData": {"mimeType": "image/png", "fileUri": NO}},
            {"functionCall": {"id": NO, "name": NO, "args": {"text": NO}}},
            {"executableCode": {"code": NO}},
        ),
        "Hi",
    ),
    "gemini, results": (
        gemini(
            {
                "functionResponse": {
                    "id": NO,
                    "name": NO,
                    "response": {"result": {"city": "Oslo", "fileId": NO, "sky": ["blue", 1]}},
                }
            },
            {"codeExecutionResult": {"outcome": NO, "output": "42"}},
        ),
        "Oslo\nblue\n42",
    ),
    "pydantic-ai": (
        pydantic_ai(
            {"part_kind": "system-prompt", "content": "Be kind."},
            {
                "part_kind": "user-prompt",
                "content": [
                    "One",
                    {"kind": "text-content", "content": "two", "metadata": NO},
                    {"kind": "binary", "data": NO, "media_type": "image/png"},
                    {"kind": "image-url", "url": NO},
                ],
            },
            {
                "part_kind": "tool-return",
                "tool_name": NO,
                "tool_call_id": NO,
                "content": {
                    "sky": "blue",
                    "picture": {"kind": "binary", "data": NO, "media_type": "image/png"},
                },
            },
        ),
        "Be kind.\nOne\ntwo\nblue",
    ),
    "pydantic-ai, a reply": (
        pydantic_ai(
            {"part_kind": "thinking", "content": NO},
            {"part_kind": "text", "content": "Hi", "id": NO},
            {"part_kind": "tool-call", "tool_name": NO, "args": NO},
            kind="response",
        ),
        "Hi",
    ),
    "a message": (msgspec.to_builtins(Message("user", "Hi", name=NO)), "Hi"),
    "run item, a message": (msgspec.to_builtins(MessageItem(NO, Role.USER, "Hi", NOW)), "Hi"),
    "run item, a call": (msgspec.to_builtins(ToolCallItem(NO, NO, {"text": NO}, NOW)), ""),
    "run item, a result": (
        msgspec.to_builtins(ToolOutputItem(NO, NO, {"sky": "blue"}, None, NOW)),
        "blue",
    ),
    "run item, a failed call": (
        msgspec.to_builtins(ToolOutputItem(NO, NO, None, "It failed.", NOW)),
        "It failed.",
    ),
    "run item, a handoff": (msgspec.to_builtins(HandoffItem(NO, NO, NO, NO, NOW)), ""),
    "unknown, a mapping": ({"text": NO, "content": NO}, ""),
    "unknown, a list": ([NO, {"role": "user", "content": NO}], ""),
    "unknown, a part": ({"role": "user", "content": [{"type": "new", "text": NO}]}, ""),
    "unknown, a type": ({"role": "user", "content": [{"type": [NO], "text": NO}]}, ""),
    "unknown, a number": (1, ""),
}


@pytest.mark.parametrize(("item", "text"), ITEMS.values(), ids=ITEMS)
def test_the_text_of_an_item_is_that_of_its_messages_and_tool_results(item, text):
    assert message_text(item) == text


def test_the_text_of_a_turn_is_that_of_its_items_in_order():
    items = [item for item, _ in ITEMS.values()]
    assert turn_text(items) == "\n".join(text for _, text in ITEMS.values() if text)


FIELDS = ["role", "type", "kind", "part_kind", "content", "parts", "output", "text", "data"]
VALUES = ["user", "tool", "text", "document", "tool_result", "request", "ToolOutput", "tool-return"]
ALIKE = st.recursive(
    JSON | st.sampled_from(VALUES),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FIELDS, "functionResponse", "audio"]), inner)
    ),
    max_leaves=20,
)


@given(ALIKE)
def test_any_item_has_a_text(item):
    assert isinstance(message_text(item), str)


@pytest.mark.parametrize(
    "wrap", [lambda value: [value], lambda value: {"content": value}], ids=["lists", "mappings"]
)
@pytest.mark.parametrize("role", ["user", "tool"])
def test_an_item_may_be_nested_deeply(role, wrap):
    content = "Hi"
    for _ in range(5_000):
        content = wrap(content)
    text = message_text({"role": role, "content": content})
    assert text == ("Hi" if role == "tool" or isinstance(content, list) else "")
