"""Tool calls and tool results in Anthropic's messages, whose blocks are already checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from helpers.validators.refused import blocks, check_text, refuse_if

CALLS: Final = ("tool_use", "server_tool_use", "mcp_tool_use")
"""Types of tool calls; the client answers the first, Anthropic itself the others."""

_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")


def check_tools(messages: Sequence[Mapping[str, Any]]) -> None:
    """Refuse invalid tool calls, and calls and results that do not belong together."""
    before: Mapping[str, Any] = {}
    following = [*messages[1:], {}]
    for index, (message, after) in enumerate(zip(messages, following, strict=True)):
        where = f"messages.{index}"
        _check_calls(message, where)
        _check_results(message, before, where)
        _check_answered(message, after, where)
        before = message

    _check_server_calls([message for message in messages if message["role"] == "assistant"], before)


def _check_calls(message: Mapping[str, Any], where: str) -> None:
    """Refuse a tool call without a valid id, name or input, and ids that are used twice.

    The id's pattern: https://github.com/tailcallhq/forgecode/issues/1142. "tool_use.input: Input
    should be a valid dictionary" (https://github.com/WordPress/php-ai-client/issues/171).
    "`tool_use` ids must be unique" (https://github.com/trycua/cua/issues/524); whether this counts
    for all messages together has no source. That an empty name is refused has no source.
    """
    calls = [block for block in blocks(message["content"]) if block["type"] in CALLS]
    for block in calls:
        place = f"{where}.{block['type']}"
        call_id = check_text(block.get("id"), f"{place}.id")
        refuse_if(not _ID.fullmatch(call_id), f"{place}.id: String should match pattern")
        check_text(block.get("name"), f"{place}.name")
        refuse_if(
            not isinstance(block.get("input"), Mapping),
            f"{place}.input: Input should be a valid dictionary",
        )

    ids = [block["id"] for block in calls]
    refuse_if(len(ids) != len(set(ids)), f"{where}: `tool_use` ids must be unique")


def _client_calls(message: Mapping[str, Any]) -> list[str]:
    """Return the ids of the tool calls that the client answers."""
    content = blocks(message.get("content"))
    return [block["id"] for block in content if block["type"] == "tool_use"]


def _check_results(message: Mapping[str, Any], before: Mapping[str, Any], where: str) -> None:
    """Refuse a tool result without its call in the message before, and a second one.

    "unexpected `tool_use_id` found in `tool_result` blocks"
    (https://github.com/tghamm/Anthropic.SDK/issues/184). Content of a result is optional
    (``ToolResultBlockParam``). That a second result is refused has no source.
    """
    pending = _client_calls(before)
    for block in blocks(message["content"]):
        if block["type"] == "tool_result":
            refuse_if(
                block.get("tool_use_id") not in pending,
                f"{where}: unexpected `tool_use_id` found in `tool_result` blocks",
            )
            pending.remove(block["tool_use_id"])
            content = block.get("content")
            refuse_if(
                content is not None and not isinstance(content, (str, list)),
                f"{where}.tool_result.content: Input should be a valid list",
            )


def _check_answered(message: Mapping[str, Any], after: Mapping[str, Any], where: str) -> None:
    """Refuse tool calls whose results do not come first in the next message, and text after calls.

    "`tool_use` ids were found without `tool_result` blocks immediately after"
    (https://github.com/anthropics/claude-code/issues/8210). Results come first in the content:
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls and
    https://github.com/shareAI-lab/learn-claude-code/pull/210. Text that follows a call in the same
    message has the same answer, as recorded in anomalyco/opencode, ``packages/llm/test/fixtures/
    recordings/anthropic-messages/rejects-malformed-assistant-tool-order-without-patch.json``.
    """
    unanswered = (
        f"{where}: `tool_use` ids were found without `tool_result` blocks immediately after"
    )
    called = False
    for block in blocks(message["content"]):
        refuse_if(called and block["type"] == "text", unanswered)
        called = called or block["type"] == "tool_use"

    calls = _client_calls(message)
    first = blocks(after.get("content"))[: len(calls)]
    results = [block.get("tool_use_id") for block in first if block["type"] == "tool_result"]
    refuse_if(any(call not in results for call in calls), unanswered)


def _check_server_calls(replies: Sequence[Mapping[str, Any]], last: Mapping[str, Any]) -> None:
    """Refuse a call of Anthropic's own tools without its result, and a result without its call.

    "`web_search` tool use with id ... was found without a corresponding `web_search_result` block"
    (https://github.com/anthropics/anthropic-sdk-python/issues/961), "unexpected `tool_use_id` found
    in `advisor_tool_result` blocks" (https://github.com/anthropics/claude-code/issues/64383). The
    result may be in the next reply, if the turn was paused or calls the client's tools too
    (https://github.com/vellum-ai/vellum-assistant/issues/40145). The last reply may therefore wait
    for its results if it ends the messages or calls the client's tools.
    """
    missing = "server tool use was found without a corresponding result block"
    pending: set[str] = set()
    for reply in replies:
        earlier = set(pending)
        for block in blocks(reply["content"]):
            kind = block["type"]
            if kind in CALLS and kind != "tool_use":
                pending.add(block["id"])
            elif kind.endswith("_tool_result"):
                call_id = check_text(block.get("tool_use_id"), f"{kind}.tool_use_id")
                refuse_if(
                    call_id not in pending, f"unexpected `tool_use_id` found in `{kind}` blocks"
                )
                pending.remove(call_id)
        refuse_if(earlier & pending, missing)

    may_wait = bool(replies) and (replies[-1] is last or bool(_client_calls(replies[-1])))
    refuse_if(pending and not may_wait, missing)
