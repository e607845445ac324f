"""The tool calls and tool results of OpenAI's responses."""

from __future__ import annotations

from typing import Any, Final

from tower_memory._fields import MISSING, field
from tower_memory._tool_links import ItemLinks, is_plain, item_links, plain_links
from tower_memory.dialects._repair import INTERRUPTED

_SHELL_OUTPUT: Final = {
    "stdout": "",
    "stderr": INTERRUPTED,
    "outcome": {"type": "exit", "exit_code": 1},
}

INTERRUPTED_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "apply_patch_call": {"status": "failed", "output": INTERRUPTED},
    "custom_tool_call": {"output": INTERRUPTED},
    "function_call": {"output": INTERRUPTED},
    "local_shell_call": {"output": f'"{INTERRUPTED}"'},
    "mcp_approval_request": {"approve": False, "reason": INTERRUPTED},
    "shell_call": {"output": [_SHELL_OUTPUT]},
}
"""Fields of an interrupted result, by the type of the call.

A call of another type, such as a request for a screenshot, cannot get such a result.
"""

_RESULT_TYPES: Final = {
    "apply_patch_call": "apply_patch_call_output",
    "computer_call": "computer_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "function_call": "function_call_output",
    "local_shell_call": "local_shell_call_output",
    "shell_call": "shell_call_output",
    "tool_search_call": "tool_search_output",
}
"""Type of the tool result for each type of tool call; both name the call in ``call_id``."""

_CALL_ID_FIELDS: Final = {
    **dict.fromkeys(_RESULT_TYPES, "call_id"),
    "mcp_approval_request": "id",
}
"""Name of the field that holds the id of a call, by the type of the item."""

_RESULT_ID_FIELDS: Final = {
    **dict.fromkeys(_RESULT_TYPES.values(), "call_id"),
    "mcp_approval_response": "approval_request_id",
}
"""Name of the field that holds the id of the answered call, by the type of the item."""

CALLS_BY_ID: Final = ("local_shell_call", "mcp_approval_request")
"""Types of calls whose result names their ``id``."""


def links_of_item(item: Any) -> ItemLinks:
    """Return the links of *item*."""
    if is_plain(item):
        return plain_links(item)

    calls: list[Any] = []
    results: list[Any] = []
    kind = field(item, "type")
    if isinstance(kind, str) and field(item, "role") is MISSING:
        if kind in _CALL_ID_FIELDS and not _is_server_search(item):
            calls.append(field(item, _CALL_ID_FIELDS[kind]))
        if kind in _RESULT_ID_FIELDS:
            result = field(item, _RESULT_ID_FIELDS[kind])
            # The result of a local shell names its call in the field id.
            results.append(field(item, "id") if result is MISSING else result)

    return item_links(calls, results, starts_exchange=field(item, "role") == "user")


def _is_server_search(item: Any) -> bool:
    """Return True if *item* is a tool search that the server answers itself."""
    return bool(field(item, "type") == "tool_search_call" and field(item, "execution") != "client")


def is_async(item: Any) -> bool:
    """Return True if *item* is a call whose result may come at any time."""
    return field(item, "async") is True


def interrupted_result(call: Any) -> dict[str, Any]:
    """Return a result of *call* that says that the call was interrupted."""
    kind, value = field(call, "type"), field(call, "caller")
    caller = {} if value in (MISSING, None) else {"caller": value}
    call_id = field(call, _CALL_ID_FIELDS[kind])

    if kind == "mcp_approval_request":
        head = {"type": "mcp_approval_response", "approval_request_id": call_id}
    else:
        key = "id" if kind == "local_shell_call" else "call_id"
        head = {"type": f"{kind}_output", key: call_id}
    return {**head, **INTERRUPTED_FIELDS[kind], **caller}
