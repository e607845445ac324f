"""OpenAI's responses (``POST /v1/responses``).

The shapes are those of ``InputItem`` in https://github.com/openai/openai-openapi (openapi.json,
commit f85dbe2). Not checked, because it needs the server's memory: a message or call whose id
belongs to an item that followed from reasoning ("was provided without its required 'reasoning'
item", https://github.com/continuedev/continue/issues/11994). Not checked either: call ids that are
used twice, for which no source tells what OpenAI does.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from helpers.validators.openai_responses_links import OUTPUTS, check_links, kind_of
from helpers.validators.refused import (
    Refused,
    check_json,
    check_list,
    check_name,
    check_object,
    check_text,
    refuse_if,
)

_INPUT_PARTS: Final = {"input_text", "input_image", "input_file"}
_OUTPUT_PARTS: Final = {"output_text", "refusal"}

_PREFIXES: Final = {"function_call": "fc", "message": "msg", "reasoning": "rs"}
"""How an id begins, by the type of the item."""


def check_openai_responses(items: object, *, stored_ids: AbstractSet[str] = frozenset()) -> None:
    """Raise `Refused` if OpenAI's responses would refuse *items* as the input.

    *stored_ids* are the ids of the items that the server has; none if ``store`` is false.
    """
    check_json(items)
    checked = check_list(items, "input")

    for index, item in enumerate(checked):
        where = f"input[{index}]"
        kind = check_text(kind_of(item), f"{where}.type")
        _check_id(item, kind, where)
        if kind == "message":
            _check_message(item, where)
        elif kind == "reasoning":
            _check_reasoning(item, where, stored_ids)
        elif kind == "item_reference":
            _check_stored(item.get("id"), where, stored_ids)
        elif kind in OUTPUTS:
            _check_call(item, kind, where)
        elif kind in OUTPUTS.values():
            _check_output(item, where)

    check_links(checked)


def _check_id(item: Mapping[str, Any], kind: str, where: str) -> None:
    """Refuse an id that does not begin as those of its type do.

    "Expected an ID that begins with 'msg'" (https://github.com/openai/codex/issues/33176), 'fc'
    (https://github.com/nodetool-ai/nodetool/pull/4252), 'rs'
    (https://github.com/jlcodes99/cockpit-tools/issues/2090).
    """
    if item.get("id") is None or kind not in _PREFIXES:
        return
    text = check_text(item["id"], f"{where}.id")
    begin = _PREFIXES[kind]
    refuse_if(
        not text.startswith(begin),
        f"Invalid '{where}.id': Expected an ID that begins with '{begin}'",
    )


def _check_message(item: Mapping[str, Any], where: str) -> None:
    """Refuse a message with an unknown role, without content, or with the other side's parts.

    "Invalid value: 'input_text'. Supported values are: 'output_text' and 'refusal'"
    (https://github.com/epam/ai-dial-adapter-openai/issues/511).
    """
    role = check_text(item.get("role"), f"{where}.role")
    refuse_if(
        role not in ("user", "assistant", "system", "developer"), f"Invalid value: '{where}.role'"
    )
    content = item.get("content")
    if isinstance(content, str):
        return

    if not isinstance(content, list):
        msg = f"Invalid type for '{where}.content'"
        raise Refused(msg)

    allowed = _OUTPUT_PARTS if role == "assistant" else _INPUT_PARTS
    for number, part in enumerate(content):
        place = f"{where}.content[{number}]"
        kind = check_text(check_object(part, place).get("type"), f"{place}.type")
        refuse_if(kind not in allowed, f"Invalid value: '{kind}' in '{place}.type'")
        if kind in ("input_text", "output_text", "refusal"):
            key = "refusal" if kind == "refusal" else "text"
            check_text(part.get(key), f"{place}.{key}", empty=True)


def _check_reasoning(item: Mapping[str, Any], where: str, stored_ids: AbstractSet[str]) -> None:
    """Refuse reasoning without its summary, or that neither holds its content nor is stored.

    ``ReasoningItem`` requires ``summary``, which may be an empty list. "Item with id 'rs_...' not
    found. Items are not persisted when `store` is set to false"
    (https://github.com/can1357/oh-my-pi/issues/41): reasoning without ``encrypted_content`` is
    looked up by its id (https://github.com/continuedev/continue/pull/11785).
    """
    refuse_if(
        not isinstance(item.get("summary"), list), f"Missing required parameter: '{where}.summary'"
    )
    if not item.get("encrypted_content"):
        _check_stored(item.get("id"), where, stored_ids)


def _check_stored(item_id: object, where: str, stored_ids: AbstractSet[str]) -> None:
    """Refuse the id of an item that the server does not have; see `_check_reasoning`."""
    text = check_text(item_id, f"{where}.id")
    refuse_if(
        text not in stored_ids,
        f"Item '{where}' not found. Items are not persisted when `store` is set to false",
    )


def _check_call(item: Mapping[str, Any], kind: str, where: str) -> None:
    """Refuse a call without its call id, and a function call without its name or arguments.

    ``FunctionToolCall`` requires ``call_id``, ``name`` and ``arguments``. "Invalid
    'input[4].call_id': empty string" (https://github.com/earendil-works/pi/issues/2917). The name's
    pattern: https://github.com/NousResearch/hermes-agent/issues/31666.
    """
    _check_call_id(item, where)
    if kind in ("function_call", "custom_tool_call"):
        check_name(item.get("name"), f"{where}.name")
        key = "arguments" if kind == "function_call" else "input"
        check_text(item.get(key), f"{where}.{key}", empty=True)


def _check_output(item: Mapping[str, Any], where: str) -> None:
    """Refuse an output without its call id, and one without ``output`` (the schema).

    Only ``ApplyPatchToolCallOutputItemParam`` does not require ``output``.
    """
    _check_call_id(item, where)
    if item["type"] != "apply_patch_call_output":
        refuse_if(item.get("output") is None, f"Missing required parameter: '{where}.output'")


def _check_call_id(item: Mapping[str, Any], where: str) -> None:
    """Refuse a call id that is empty or longer than 64 (``FunctionCallOutputItemParam``).

    For calls: https://github.com/decolua/9router/issues/393. The output of a local shell names its
    call in ``id`` (``LocalShellCallOutput`` in the client ``openai``).
    """
    key = "id" if item["type"] == "local_shell_call_output" else "call_id"
    call_id = check_text(item.get(key), f"{where}.{key}")
    refuse_if(len(call_id) > 64, f"Invalid '{where}.{key}': string too long")
