"""The text of the messages in an item, of any dialect: the text that a search finds.

1. The text of a message is text that a person, a model or a tool wrote: content, text parts,
   refusals and the transcript of a spoken reply. Tool results are such text, because users look for
   what a tool has found.
2. Not part of the text are reasoning, ids, keys, the names and arguments of tool calls, and media
   with their URLs, names and base64 data.
3. Text is found by its place in an item, and parts are recognised by their type. A part or an item
   of an unknown shape has no text.
4. A tool result that is data has the strings among its values as its text, without the values of
   `_NO_TEXT`, and without media.
5. Values are read from a list of open values, not by recursion, so items may have any depth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

_Found: TypeAlias = list[tuple["_Reader", Any]]
"""Values that may hold text, in order, each with the function that reads its mappings."""

_Reader: TypeAlias = Callable[[dict[str, Any]], _Found]
"""Function that finds the values with text in a mapping."""

_TEXT_FIELDS: Final = {
    None: "text",  # Gemini
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "text-plain": "text",  # a text document of LangChain
    "refusal": "refusal",
    "search_result": "content",
    "document": "source",
    "content": "content",  # the source of a document, as parts
}
"""Name of the field with the text or the inner parts of a part, by the part's type."""

_RESULT_FIELDS: Final = {
    **dict.fromkeys(("apply_patch_call_output", "custom_tool_call_output"), "output"),
    **dict.fromkeys(("function_call_output", "local_shell_call_output"), "output"),
    **dict.fromkeys(("shell_call_output", "mcp_call"), "output"),
    "code_interpreter_call": "outputs",
    "file_search_call": "results",
}
"""Name of the field with the tool result, by the type of an item of OpenAI's responses."""

_RESULT_PARTS: Final = {
    **dict.fromkeys(("function_result", "search_tool_result"), "result"),
    **dict.fromkeys(("code_interpreter_tool_result", "shell_tool_result"), "outputs"),
    "mcp_server_tool_result": "output",
}
"""Name of the field with the tool result, by the type of a part of agent-framework."""

_PROMPTS: Final = ("system-prompt", "user-prompt", "text")
_RETURNS: Final = ("tool-return", "builtin-tool-return")
"""Kinds of pydantic-ai's parts: messages, and tool results."""

_LANGCHAIN: Final = ("ai", "chat", "function", "human", "system", "tool")
"""Types of LangChain's messages, whose fields are in ``data``."""

_NO_TEXT: Final = re.compile(
    r"(?:.*_)?(?:id|kind|type|ur[il])s?|.*(?:Id|Kind|Type|Ur[il])s?|encrypted_.*|file_data|tool_name"
)
"""Names of values in a tool result that are no text."""

_MEDIA_TYPES: Final = frozenset({"media_type", "mediaType", "mime_type", "mimeType"})
"""Names of the field with the media type; a mapping with such a field is media."""

_MEDIA: Final = frozenset(
    {"audio", "file", "image", "image_url", "input_audio", "input_file", "input_image", "video"}
)
"""Types of parts that are media."""

_DATA_URL: Final = re.compile(r"data:[^,\s]*;base64,\S*")


def message_text(item: Any) -> str:
    """Return the text of the messages in *item*; an empty text if it has none.

    *item* is a stored item, as JSON builtins. It may be any JSON value.

    >>> from tower_memory._message_text import message_text
    >>> message_text({"role": "user", "content": [{"type": "text", "text": "Hi"}]})
    'Hi'
    >>> message_text({"type": "function_call", "call_id": "call_1", "arguments": "{}"})
    ''
    """
    return turn_text([item])


def turn_text(items: Iterable[Any]) -> str:
    r"""Return the text of the messages in *items*, joined by line breaks.

    >>> from tower_memory.store_toolkit import turn_text
    >>> turn_text([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}])
    'Hi\nHello!'
    """
    texts: list[str] = []
    open_values: _Found = [(_item, item) for item in items if not isinstance(item, list)]
    open_values.reverse()  # the last one is read next

    while open_values:
        reader, value = open_values.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list):
            open_values += [(reader, each) for each in reversed(value)]
        elif isinstance(value, dict):
            open_values += reversed(reader(value))

    return "\n".join(text for text in texts if text and not _DATA_URL.fullmatch(text))


def _item(item: dict[str, Any]) -> _Found:
    """Find the text of an item."""
    kind = item.get("type")
    if item.get("kind") in ("request", "response"):  # pydantic-ai
        return [(_pydantic_part, item.get("parts"))]
    if kind in _LANGCHAIN and (message := item.get("data")) is not None:
        return [(_result if kind == "tool" else _part, _field(message, "content"))]
    if kind == "ToolOutput":  # a run item
        return [(_result, item.get("output")), (_result, item.get("error"))]
    if isinstance(kind, str) and kind in _RESULT_FIELDS:
        return [(_result, item.get(_RESULT_FIELDS[kind]))]
    if not isinstance(role := item.get("role"), str):
        return []

    content = (_result if role == "tool" else _part, item.get("content"))
    audio = item.get("audio")  # a spoken reply of chat completions
    parts = (item.get("parts"), item.get("contents"))  # Gemini, agent-framework
    others = (*parts, item.get("refusal"), _field(audio, "transcript"))
    return [content, *((_part, value) for value in others)]


def _part(part: dict[str, Any]) -> _Found:
    """Find the text of a part of a message."""
    kind = part.get("type")
    if part.get("thought") is True or not isinstance(kind, str | None):
        return []
    if kind == "text" and "data" in part:  # the source of a document
        return [(_part, part["data"])]
    if kind in _TEXT_FIELDS:
        results = ("functionResponse", "response"), ("codeExecutionResult", "output")  # Gemini
        found = [(_result, _field(part.get(outer), inner)) for outer, inner in results]
        return [(_part, part.get(_TEXT_FIELDS[kind])), *found]
    if kind == "tool_result":  # Anthropic
        return [(_part, part.get("content"))]

    if kind in _RESULT_PARTS:
        return [(_result, part.get(_RESULT_PARTS[kind]))]
    if kind is not None and kind.endswith("_tool_result"):  # of a provider's own tools
        return [(_result, part.get("content")), (_result, part.get("output"))]  # LangChain: output
    return []


def _pydantic_part(part: dict[str, Any]) -> _Found:
    """Find the text of a part of pydantic-ai, or of a part of a user's prompt."""
    kind, content = part.get("part_kind"), part.get("content")
    if kind in _RETURNS:
        return [(_result, content)]
    is_text = kind in _PROMPTS or part.get("kind") == "text-content"
    return [(_pydantic_part, content)] if is_text else []


def _result(value: dict[str, Any]) -> _Found:
    """Find the text of a mapping in a tool result (rule 4)."""
    kind = value.get("type")
    is_media = not _MEDIA_TYPES.isdisjoint(value) or (isinstance(kind, str) and kind in _MEDIA)
    if is_media and kind != "text":  # a document of text has a media type, too
        return []
    return [(_result, each) for name, each in value.items() if not _NO_TEXT.fullmatch(name)]


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
