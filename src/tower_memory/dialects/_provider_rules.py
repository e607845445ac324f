"""The stage between stored and sent: provider rules make each item of the history sendable.

Stored items stay as the model and the user said them. A provider may refuse such an item in a later
request, even if the provider itself made it. Therefore each dialect has a table of rules.

1. A rule is a pure function. It returns the item as the provider accepts it, or None to leave the
   item out. It changes nothing in place. Its docstring names its source.
2. The stage sees every item of the history, in every request. Items that are clean skip the rules;
   `is_valid` recognises a history in which all items are clean.
3. The items of the request itself are not changed.
4. A tool call with broken arguments or without a name cannot be sent. If a result answers it, the
   model should see both, so the call is mended. Otherwise no tool has run, and the call is left
   out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from tower_memory._tool_links import GetLinks, pair_calls
from tower_memory.dialects._repair import ProviderRules
from tower_memory.dialects._text import INVALID_JSON, decode_object

EMPTY_MESSAGE: Final = "(empty message)"
"""Text of a message that has no content, where a provider requires some."""

UNNAMED_TOOL: Final = "unnamed_tool"
"""Name of a tool whose call was answered, though the call has no name."""


class Place(NamedTuple):
    """The surroundings of an item, for the rules that need them.

    Attributes:
        unanswered: Indexes of the item's tool calls without a result.
        now: The time of the request, in seconds since 1970.
    """

    unanswered: Collection[int]
    now: float


class Rule(Protocol):
    """A function that returns an item as the provider accepts it, or None to leave it out."""

    def __call__(self, item: Any, place: Place, /) -> Any | None: ...


def apply_rules(
    table: Sequence[Rule],
    history: Sequence[Any],
    new: Sequence[Any],
    provider: ProviderRules,
    now: float,
) -> list[Any]:
    """Return the items of *history* as the provider accepts them.

    Args:
        table: The rules, in the order in which they are applied.
        history: The items of the history, oldest first.
        new: The items of the request. They may answer tool calls of the history.
        provider: Tells the links of an item, and if an item is clean.
        now: The time of the request, in seconds since 1970.
    """
    unclean = {position for position, item in enumerate(history) if not provider.is_clean(item)}
    if not unclean:
        return list(history)

    unanswered = pair_calls([*history, *new], provider.links).unanswered_at()
    sendable: list[Any] = []
    for position, stored in enumerate(history):
        item = stored
        if position in unclean:
            numbers = [call.number for call in unanswered.get(position, ())]
            item = _apply(table, item, Place(numbers, now))
        if item is not None:
            sendable.append(item)
    return sendable


def _apply(table: Sequence[Rule], item: Any, place: Place) -> Any | None:
    for rule in table:
        item = rule(item, place)
        if item is None:
            return None
    return item


def without_refused_exchanges(
    history: Sequence[Any], new: Sequence[Any], links: GetLinks, is_refused: Callable[[Any], bool]
) -> Sequence[Any]:
    """Leave out each exchange of *history* in which the provider refused to reply.

    Otherwise Anthropic goes on refusing
    (https://platform.claude.com/docs/en/test-and-evaluate/strengthen-guardrails/handle-streaming-refusals).
    The last exchange stays if *new* goes on with it.

    Args:
        history: The items of the history, oldest first.
        new: The items of the request.
        links: Returns the links of an item.
        is_refused: Returns True for the reply of a refused exchange.
    """
    if not any(map(is_refused, history)):
        return history

    items: list[Any] = []
    start = 0
    for item in history:
        if links(item).starts_exchange:
            start = len(items)
        items.append(item)
        goes_on = item is history[-1] and bool(new) and not links(new[0]).starts_exchange
        if is_refused(item) and not goes_on:
            del items[start:]
    return items


# Parts that several providers have


def is_blank(text: object) -> bool:
    """Return True if *text* is a text that is empty or consists of white space."""
    return isinstance(text, str) and (not text or text.isspace())


def is_blank_part(part: object) -> bool:
    """Return True if *part* is a text part whose text is blank."""
    return (
        isinstance(part, dict)
        and part.get("type") in ("text", "input_text", "output_text")
        and is_blank(part.get("text"))
    )


def is_json_object(arguments: object) -> bool:
    """Return True if *arguments* is the text of a JSON object."""
    return isinstance(arguments, str) and decode_object(arguments) is not None


def mend_arguments(arguments: object) -> str:
    """Return *arguments* as the text of a JSON object (rule 4).

    Empty arguments become ``{}``, as the model wanted to pass none. Other arguments that are no
    JSON object are quoted under the key ``INVALID_JSON``, as Anthropic suggests
    (https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming).
    """
    if arguments is None or is_blank(arguments):
        return "{}"
    if isinstance(arguments, dict):
        return msgspec.json.encode(arguments).decode()
    if is_json_object(arguments):
        return str(arguments)
    return msgspec.json.encode({INVALID_JSON: arguments}).decode()
