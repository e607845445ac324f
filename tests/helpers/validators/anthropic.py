"""Anthropic's messages (``POST /v1/messages``).

The shapes are those of ``MessageParam`` in the client ``anthropic``. Each message is checked alone,
although the API joins neighbours of one role: for a tool result in a second message of the user no
source tells whether it is accepted. Not checked: that thinking is unmodified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from helpers.validators.anthropic_tools import CALLS, check_tools
from helpers.validators.refused import (
    Refused,
    blocks,
    check_json,
    check_list,
    check_object,
    check_text,
    refuse_if,
)

_THINKING: Final = {"thinking": ("thinking", "signature"), "redacted_thinking": ("data",)}
"""Required fields of a block of thinking (``ThinkingBlockParam``, ``RedactedThinkingBlockParam``).

"thinking.signature: Field required" (https://github.com/dirge-code/dirge/issues/821).
"thinking.thinking: Field required" (https://github.com/LibreChat-AI/agents/pull/279).
"""


def check_anthropic(messages: object, *, user_first: bool = True) -> None:
    """Raise `Refused` if Anthropic's messages would refuse *messages*.

    *user_first* refuses an assistant's message at the start. The API did so, and clients still
    work around it (https://github.com/langchain4j/langchain4j/pull/1197). In May 2026 it accepted
    such a request: anomalyco/opencode, ``packages/llm/test/fixtures/recordings/anthropic-messages/
    accepts-malformed-assistant-tool-order-with-default-patch.json``.
    """
    check_json(messages)
    checked = check_list(messages, "messages")
    roles = [
        check_text(message.get("role"), f"messages.{index}.role")
        for index, message in enumerate(checked)
    ]
    _check_roles(roles, user_first=user_first)

    for index, message in enumerate(checked):
        where = f"messages.{index}"
        is_last_reply = index == len(checked) - 1 and roles[index] == "assistant"
        _check_content(message, where, is_last_reply=is_last_reply)
        if roles[index] == "assistant":
            _check_thinking_is_used(message, where)
    check_tools(checked)


def _check_roles(roles: Sequence[Any], *, user_first: bool) -> None:
    """Refuse an unknown role, and a system message in a wrong place.

    "messages.0: use the top-level 'system' parameter for the initial system prompt"
    (https://www.stepcodex.com/en/issue/bug-cli-builds-invalid-request-after), "role 'system' must
    precede an 'assistant' message or end the array"
    (https://github.com/anthropics/claude-code/issues/73821), and "immediately after a user turn"
    (https://github.com/simonw/llm-anthropic/issues/73). Older models refuse the role system.
    """
    for index, role in enumerate(roles):
        where = f"messages.{index}"
        refuse_if(role not in ("user", "assistant", "system"), f"{where}: Unexpected role")
        if role == "system":
            refuse_if(not index, f"{where}: use the top-level 'system' parameter")
            refuse_if(roles[index - 1] != "user", f"{where}: role 'system' must follow a user turn")
            refuse_if(
                roles[index + 1 : index + 2] not in ([], ["assistant"]),
                f"{where}: role 'system' must precede an 'assistant' message or end the array",
            )
    refuse_if(user_first and roles[0] != "user", 'messages: first message must use the "user" role')


def _check_content(message: Mapping[str, Any], where: str, *, is_last_reply: bool) -> None:
    """Refuse empty content, except of a last message of the assistant, and invalid blocks.

    "all messages must have non-empty content except for the optional final assistant message"
    (https://github.com/anthropics/claude-code/issues/6774), "final assistant content cannot end
    with trailing whitespace" (https://github.com/tailcallhq/forgecode/issues/1872).
    """
    content = message.get("content")
    if not isinstance(content, (str, list)):
        msg = f"{where}.content: Input should be a valid list"
        raise Refused(msg)
    refuse_if(
        not content and not is_last_reply, f"{where}: all messages must have non-empty content"
    )
    if isinstance(content, str):
        last_text = content
        if content:
            _check_visible(content)
    else:
        last_text = _check_blocks(content, f"{where}.content", message["role"])

    refuse_if(
        is_last_reply and last_text != last_text.rstrip(),
        "messages: final assistant content cannot end with trailing whitespace",
    )


def _check_blocks(content: Sequence[Any], where: str, role: str) -> str:
    """Refuse a block without its fields or in the other side's message; return a last text.

    "`tool_use` blocks can only be in `assistant` messages"
    (https://github.com/lobehub/lobehub/issues/6556). The same of thinking and of tool results has
    no source.
    """
    for number, block in enumerate(content):
        place = f"{where}.{number}"
        kind = check_text(check_object(block, place).get("type"), f"{place}.type")
        if kind == "text":
            _check_visible(check_text(block.get("text"), f"{place}.text.text", empty=True))
        for key in _THINKING.get(kind, ()):
            refuse_if(not isinstance(block.get(key), str), f"{place}.{kind}.{key}: Field required")

        of_assistant = kind in _THINKING or kind in CALLS
        refuse_if(
            (of_assistant and role != "assistant") or (kind == "tool_result" and role != "user"),
            f"{place}: `{kind}` blocks cannot be in `{role}` messages",
        )
    return content[-1]["text"] if content and content[-1]["type"] == "text" else ""


def _check_visible(text: str) -> None:
    """Refuse text without a visible character.

    "text content blocks must be non-empty" (https://github.com/anthropics/claude-code/issues/59812)
    "text content blocks must contain non-whitespace text"
    (https://github.com/home-assistant/core/issues/175637)
    """
    refuse_if(not text, "messages: text content blocks must be non-empty")
    refuse_if(not text.strip(), "messages: text content blocks must contain non-whitespace text")


def _check_thinking_is_used(message: Mapping[str, Any], where: str) -> None:
    """Refuse thinking as the last block (https://github.com/tailcallhq/forgecode/issues/2107)."""
    for block in blocks(message["content"])[-1:]:
        refuse_if(
            block["type"] in _THINKING,
            f"{where}: The final block in an assistant message cannot be `thinking`",
        )
