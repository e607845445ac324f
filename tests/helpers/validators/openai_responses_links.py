"""How the items of OpenAI's responses belong together; each item is already checked alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from helpers.validators.refused import refuse_if

OUTPUTS: Final = {
    "apply_patch_call": "apply_patch_call_output",
    "computer_call": "computer_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "function_call": "function_call_output",
    "local_shell_call": "local_shell_call_output",
    "shell_call": "shell_call_output",
}
"""Type of the output for each type of call that the client answers."""


def kind_of(item: Mapping[str, Any]) -> Any:
    """Return the type of *item*; one with a role and without a type is a message (the schema)."""
    return item.get("type") or ("message" if "role" in item else "item_reference")


def check_links(items: Sequence[Mapping[str, Any]]) -> None:
    """Refuse items that do not belong together."""
    _check_ids_differ(items)
    _check_pairs(items)
    _check_reasoning_is_used(items)


def _check_ids_differ(items: Sequence[Mapping[str, Any]]) -> None:
    """Refuse an id that two items have.

    "Duplicate item found with id" (https://github.com/github/app/issues/540).
    """
    ids = [item["id"] for item in items if isinstance(item.get("id"), str)]
    refuse_if(len(ids) != len(set(ids)), "Duplicate item found with id")


def _check_pairs(items: Sequence[Mapping[str, Any]]) -> None:
    """Refuse an output without its call before it, and a call without its output after it.

    "No tool output found for function call"
    (https://github.com/jeffdafoe/llm-memory-api/pull/179), "No tool call found for function call
    output" (https://github.com/continuedev/continue/pull/11785). A referenced item may be the call.
    The output of a call with ``async`` may come later (``ResponseFunctionToolCallParam`` in the
    client ``openai``). That outputs of other types are checked like those of functions has no
    source.
    """
    calls: set[tuple[str, str]] = set()
    unanswered: set[tuple[str, str]] = set()
    may_be_stored = False
    for item in items:
        kind = kind_of(item)
        may_be_stored = may_be_stored or kind == "item_reference"
        if kind in OUTPUTS:
            key = (OUTPUTS[kind], item["call_id"])
            calls.add(key)
            if item.get("async") is not True:
                unanswered.add(key)
        elif kind in OUTPUTS.values():
            key = (kind, item["id" if kind == "local_shell_call_output" else "call_id"])
            refuse_if(key not in calls and not may_be_stored, f"No tool call found for {kind}")
            unanswered.discard(key)
    refuse_if(unanswered, "No tool output found for function call")


def _check_reasoning_is_used(items: Sequence[Mapping[str, Any]]) -> None:
    """Refuse reasoning that no item of the model follows.

    "Item 'rs_...' of type 'reasoning' was provided without its required following item"
    (https://github.com/continuedev/continue/issues/8933). That several reasoning items may stand
    together has no source.
    """
    missing = "Item of type 'reasoning' was provided without its required following item"
    for item, after in zip(items, [*items[1:], None], strict=True):
        if kind_of(item) == "reasoning":
            refuse_if(after is None or not _is_of_model(after), missing)


def _is_of_model(item: Mapping[str, Any]) -> bool:
    """Return True if the model makes items such as *item*."""
    kind = kind_of(item)
    return item["role"] == "assistant" if kind == "message" else kind not in OUTPUTS.values()
