"""The servers of open models: vLLM and llama.cpp.

1. A request must pass both. llama.cpp answers some of these with status 500 instead of 400
   (llama.cpp#25510); the conversation is lost all the same.
2. The arguments of past tool calls are parsed: by vLLM up to 0.25 (vllm#48922, `_check_arguments`),
   and by llama.cpp if the chat template wants an object (``func_args_not_string`` in
   ``common/chat.cpp``).
3. Neither checks that tool calls and their results belong together; a chat template may.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from helpers.validators.refused import (
    Refused,
    check_json,
    check_list,
    check_object,
    check_text,
    refuse_if,
)

_PARTS: Final = {"text", "image_url", "input_audio", "input_video"}
"""Types of content parts; all but text need a model that reads them."""


def check_vllm(messages: object) -> None:
    """Raise `Refused` if vLLM or llama.cpp would refuse *messages*."""
    check_json(messages)
    for index, message in enumerate(check_list(messages, "messages")):
        where = f"messages[{index}]"
        role = check_text(message.get("role"), f"{where}.role")
        _check_content(message, role, where)
        if role == "assistant":
            _check_calls(message.get("tool_calls"), f"{where}.tool_calls")


def _check_content(message: Mapping[str, Any], role: str, where: str) -> None:
    """Refuse a message without the field content, except with tool calls, and unknown parts.

    "All non-assistant messages must contain 'content'" and "Assistant message must contain either
    'content' or 'tool_calls'!" (llama.cpp, ``oaicompat_chat_params_parse`` in
    ``tools/server/server-common.cpp``; llama.cpp#8367 and llama.cpp#12279). Null is content for
    both servers. "Unsupported content part type": ``common_chat_msgs_parse_oaicompat`` in
    ``common/chat.cpp``, which knows no part of the type refusal; vLLM does.
    """
    if "content" not in message:
        refuse_if(role != "assistant", "All non-assistant messages must contain 'content'")
        refuse_if(
            "tool_calls" not in message,
            "Assistant message must contain either 'content' or 'tool_calls'!",
        )
        return

    content = message["content"]
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        msg = "Expected 'content' to be a string or an array"
        raise Refused(msg)
    for number, part in enumerate(content):
        place = f"{where}.content[{number}]"
        kind = check_text(check_object(part, place).get("type"), f"{place}.type")
        refuse_if(kind not in _PARTS, f"Unsupported content part type: {kind}")
        if kind == "text":
            check_text(part.get("text"), f"{place}.text", empty=True)


def _check_calls(calls: object, where: str) -> None:
    """Refuse a tool call without its type, function, name or arguments.

    ``common_chat_msgs_parse_oaicompat`` in ``common/chat.cpp`` of llama.cpp; "chat completions only
    support assistant tool_calls of type 'function'" in ``_postprocess_messages`` of vLLM. Both
    accept an empty list and null.
    """
    if not calls:
        return
    for number, call in enumerate(check_list(calls, where)):
        place = f"{where}[{number}]"
        refuse_if(call.get("type") != "function", f"Unsupported tool call type: '{place}.type'")
        function = check_object(call.get("function"), f"{place}.function")
        check_text(function.get("name"), f"{place}.function.name", empty=True)
        _check_arguments(function.get("arguments"), f"{place}.function.arguments")


def _check_arguments(arguments: object, where: str) -> None:
    """Refuse arguments that are neither an object nor the JSON text of one.

    Text that is no JSON: vllm#48922 (vLLM has since replaced it with an empty object) and
    llama.cpp#25510. JSON that is no object makes templates fail (vllm#46328). Empty text is an
    empty object for vLLM (vllm#25223); llama.cpp refuses it, as its ``json::parse`` does.
    """
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, parse_constant=_refuse_constant)
            check_json(arguments)
        except (ValueError, RecursionError) as error:
            msg = f"Failed to parse tool call arguments as JSON: '{where}'"
            raise Refused(msg) from error
    refuse_if(not isinstance(arguments, Mapping), f"'{where}' is not a JSON object")


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities, which Python's parser alone accepts."""
    raise Refused(name)
