"""The provider rules of Anthropic's messages.

A stored message of the assistant has a ``stop_reason`` if the reply did not end regularly
(`NOTED_REASONS`). The rules read this field and remove it from the message that is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, final

from tower_memory._fields import field, list_field
from tower_memory._tool_links import Call, ItemLinks, last_exchange_start
from tower_memory.dialects._anthropic_calls import (
    has_no_user_content,
    is_call,
    is_result,
    links_of_message,
)
from tower_memory.dialects._builtins import to_builtins
from tower_memory.dialects._messages import partition, partition_results
from tower_memory.dialects._provider_rules import (
    EMPTY_MESSAGE,
    UNNAMED_TOOL,
    Place,
    Rule,
    is_blank,
    is_blank_part,
    starting_with_user,
)
from tower_memory.dialects._repair import INTERRUPTED, ProviderRules
from tower_memory.dialects._text import INVALID_JSON

NOTED_REASONS: Final = frozenset(
    {"max_tokens", "model_context_window_exceeded", "pause_turn", "refusal"}
)
"""Values of ``stop_reason`` that are stored with a message."""

_CUT_REASONS: Final = ("max_tokens", "model_context_window_exceeded")
"""Values of ``stop_reason`` that say that the reply was cut off."""

_THINKING: Final = ("thinking", "redacted_thinking")

_MESSAGE_FIELDS: Final = frozenset({"role", "content"})


# Links and repair


@final
class AnthropicRules(ProviderRules):
    """The provider rules of Anthropic's messages."""

    results_together = True

    def links(self, item: Any, /) -> ItemLinks:
        """See `ProviderRules.links`."""
        return links_of_message(item)

    def add_results(self, run: list[Any], calls: Sequence[Call], /) -> list[Any]:
        """Return *run* with all results in one message, before the user's other blocks."""
        calling, *answers = run
        if len(answers) <= 1 and not calls:
            return run

        missing = [
            {
                "type": "tool_result",
                "tool_use_id": call.id,
                "content": INTERRUPTED,
                "is_error": True,
            }
            for call in calls
        ]
        blocks = (block for answer in answers for block in list_field(answer, "content"))
        results, others = partition(blocks, is_result)
        return [calling, {"role": "user", "content": [*missing, *results, *others]}]

    def drop_results(self, item: Any, dropped: Collection[int], /) -> Any | None:
        """See `ProviderRules.drop_results`."""
        message = to_builtins(item)
        _, rest = partition_results(message["content"], is_result, dropped)
        return {**message, "content": rest} if rest else None

    def only_results(self, item: Any, kept: Collection[int], /) -> Any:
        """See `ProviderRules.only_results`."""
        message = to_builtins(item)
        results, _ = partition_results(message["content"], is_result, kept)
        return {**message, "content": results}

    def is_clean(self, item: Any, /) -> bool:
        """See `ProviderRules.is_clean`."""
        if type(item) is not dict or item.keys() != _MESSAGE_FIELDS:
            return False
        content = item["content"]
        if type(content) is not list:
            return isinstance(content, str) and not is_blank(content)

        if not content or field(content[-1], "type") in _THINKING:
            return False
        first_call = next((n for n, block in enumerate(content) if is_call(block)), len(content))
        has_calls_last = all(map(is_call, content[first_call:]))
        return has_calls_last and all(map(_is_clean_block, content))


def _is_clean_block(block: Any) -> bool:
    """Return True if the provider accepts *block*, apart from its place in the message."""
    match block:
        case {"type": "text", "text": text}:
            return not is_blank(text)
        case {"type": "thinking", "signature": signature}:
            return bool(signature)
        case {"type": "thinking"}:
            return False
        case {"type": "tool_use"}:
            return not _is_broken(block)
        case {"type": str(kind)}:
            # The provider's own tools need both call and result.
            return kind == "tool_result" or not kind.endswith(("_tool_use", "_tool_result"))
        case _:
            return False


def is_refused(message: Any) -> bool:
    """Return True if *message* is a reply that the provider refused."""
    return bool(field(message, "stop_reason") == "refusal")


def is_paused(message: Any) -> bool:
    """Return True if *message* is a reply that the provider continues without a new message."""
    return bool(field(message, "stop_reason") == "pause_turn")


# Rules for the whole history


def from_user(history: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    """Return *history* from its first message of the user.

    The first message must be the user's (https://platform.claude.com/docs/en/api/messages/create).
    If a limit has cut it off, and *new* answers a call after it, an empty message takes its place.
    A system message at the front, such as a summary of a window, becomes a message of the user.
    """
    messages = [
        {**message, "role": "user"}
        if field(message, "role") == "system" and not number
        else message
        for number, message in enumerate(history)
    ]
    empty = {"role": "user", "content": EMPTY_MESSAGE}
    return starting_with_user(messages, new, links_of_message, has_no_user_content, empty)


def without_old_thinking(history: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    """Leave out the thinking of completed exchanges. Use it for a history that was cut.

    Thinking is bound to all items before it
    (https://platform.claude.com/docs/build-with-claude/preserved-thinking).
    """
    last = last_exchange_start([*history, *new], links_of_message)
    old = [with_blocks(message, _is_not_thinking) for message in history[:last]]
    return [message for message in [*old, *history[last:]] if message is not None]


def _is_not_thinking(block: Any) -> bool:
    return bool(field(block, "type") not in _THINKING)


def with_blocks(message: Any, select: Callable[[Any], bool]) -> Any | None:
    """Return *message* with the blocks for which *select* returns True; None if none remains.

    A message whose content is no list stays as it is.
    """
    content = field(message, "content")
    if not isinstance(content, list) or all(map(select, content)):
        return message

    blocks = list(filter(select, content))
    return {**message, "content": blocks} if blocks else None


# Rules for one message


def with_sendable_calls(message: Any, place: Place) -> Any | None:
    """Mend tool calls with broken input or without a name; leave out unanswered ones.

    1. The input must be an object. If a reply was cut off, its last call may be incomplete
       (https://platform.claude.com/docs/build-with-claude/handling-stop-reasons, ``max_tokens``).
    2. Calls must be the last blocks of a message (anomalyco/opencode, recorded refusals of the
       API). If the reply went on after an unanswered call, code on the server made the call, and it
       does not wait for a result.
    """
    content = field(message, "content")
    if not isinstance(content, list):
        return message

    was_cut = field(message, "stop_reason") in _CUT_REASONS
    last_other = max((n for n, block in enumerate(content) if not is_call(block)), default=-1)
    others: list[Any] = []
    calls: list[Any] = []
    number = 0  # index of the next tool call

    for position, block in enumerate(content):
        if not is_call(block):
            others.append(block)
            continue

        goes_on = position < last_other
        is_broken = _is_broken(block) or goes_on or (was_cut and block is content[-1])
        if not (is_broken and number in place.unanswered):
            calls.append(_mend(block))
        number += 1

    return {**message, "content": [*others, *calls]}


def _is_broken(call: Any) -> bool:
    """Return True if *call* has no name, or has an input that is no object."""
    return not field(call, "name") or not isinstance(field(call, "input"), dict)


def _mend(call: dict[str, Any]) -> dict[str, Any]:
    """Return *call* with a name, and with an input that is an object."""
    if not _is_broken(call):
        return call
    given = call.get("input")
    value = given if isinstance(given, dict) else {INVALID_JSON: given} if given else {}
    return {**call, "name": call.get("name") or UNNAMED_TOOL, "input": value}


def without_blank_text(message: Any, _place: Place) -> Any | None:
    """Leave out text that is empty or white space, and a message that has nothing else.

    Text blocks must not be blank (anthropics/claude-code#59812). The API joins consecutive
    messages of one role, so a message may be missing.
    """
    if is_blank(field(message, "content")):
        return None
    return with_blocks(message, lambda block: not is_blank_part(block))


def without_unsigned_thinking(message: Any, _place: Place) -> Any | None:
    """Leave out thinking without a signature, and thinking at the end of a message.

    The API requires the signature, and refuses thinking as the last block of a message
    (tailcallhq/forgecode#3071).
    """
    if not isinstance(field(message, "content"), list):
        return message

    signed = with_blocks(message, _is_signed)
    blocks = list_field(signed, "content")
    while blocks and field(blocks[-1], "type") in _THINKING:
        blocks = blocks[:-1]
    return {**message, "content": blocks} if blocks else None


def _is_signed(block: Any) -> bool:
    return field(block, "type") != "thinking" or bool(block.get("signature"))


def without_stop_reason(message: Any, _place: Place) -> Any:
    """Leave out the noted ``stop_reason``: the API refuses unknown fields of a message.

    A message of a request has only a role and content
    (https://platform.claude.com/docs/en/api/messages/create).
    """
    if not isinstance(message, dict) or "stop_reason" not in message:
        return message
    return {key: value for key, value in message.items() if key != "stop_reason"}


RULES: Final[tuple[Rule, ...]] = (
    with_sendable_calls,
    without_blank_text,
    without_unsigned_thinking,
    without_stop_reason,
)
"""The rules for one message, in the order in which they are applied."""
