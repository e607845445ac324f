"""Provider rules: the stage that turns stored items into items that the provider accepts.

Stored items stay as the model and the user said them. A provider may refuse such an item in a later
request, even if the provider itself made it. Therefore each dialect has a table of rules.

1. A rule is a pure function. It returns the item as the provider accepts it, or None to leave the
   item out. It changes nothing in place. Its docstring names its source.
2. The rules run on the history of every request. A clean item skips the rules. If all items are
   clean, the dialect skips the stage (`is_valid`).
3. The rules do not change the items of the request itself.
4. A provider refuses a tool call with broken arguments or without a name. If a result answers the
   call, the model should see both, so a rule mends the call. Otherwise no tool has run, and the
   rule leaves the call out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import dropwhile
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from tower_memory._tool_links import GetLinks, answered_positions, pair_calls
from tower_memory.dialects._builtins import to_builtins
from tower_memory.dialects._repair import ProviderRules
from tower_memory.dialects._text import INVALID_JSON, decode_object

EMPTY_MESSAGE: Final = "(empty message)"
"""Text that a rule gives to a message without content, if the provider requires content."""

UNNAMED_TOOL: Final = "unnamed_tool"
"""Name that a rule gives to a tool call without a name, if a result answers the call."""


class Place(NamedTuple):
    """The surroundings of an item, for the rules that need them.

    Attributes:
        unanswered: Indexes of the item's tool calls that neither the history nor the request
            answers. They count the calls in the order of `ItemLinks.calls`.
        now: Time of the request in seconds since 1970, as ``time.time()`` returns it.
    """

    unanswered: Collection[int]
    now: float


class Rule(Protocol):
    """A pure function that makes an item acceptable to the provider.

    `apply_rules` has an example.
    """

    def __call__(self, item: Any, place: Place, /) -> Any | None:
        """Return *item* as the provider accepts it, or None to leave it out.

        A rule must not change *item* in place. It returns *item* itself if it does not apply.
        """
        ...


def apply_rules(
    table: Sequence[Rule],
    history: Sequence[Any],
    new: Sequence[Any],
    provider: ProviderRules,
    now: float,
) -> list[Any]:
    """Return the items of *history* as the provider accepts them.

    This rule leaves out messages without text:

    >>> from collections.abc import Sequence
    >>> from typing import Any
    >>> from tower_memory.dialects import toolkit
    >>> class AcmeRules(toolkit.ProviderRules):
    ...     def links(self, item: Any, /) -> toolkit.ItemLinks:
    ...         return toolkit.plain_links(item)
    ...
    ...     def add_results(self, run: list[Any], calls: Sequence[toolkit.Call], /) -> list[Any]:
    ...         return run  # Acme has no tools
    ...
    ...     def is_clean(self, item: Any, /) -> bool:
    ...         return not toolkit.is_blank(item["content"])
    >>> def without_blank_message(message: Any, _place: toolkit.Place, /) -> Any | None:
    ...     return None if toolkit.is_blank(message["content"]) else message
    >>> history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " "}]
    >>> toolkit.apply_rules([without_blank_message], history, [], AcmeRules(), now=0)
    [{'role': 'user', 'content': 'Hi'}]

    Args:
        table: The rules, in the order in which they are applied to each item that is not clean.
        history: The items of the history, oldest first.
        new: The items of the request, in order. They may answer tool calls of the history.
        provider: The links of each item, and whether an item is clean.
        now: Time of the request in seconds since 1970. It may be 0 if no rule reads `Place.now`.
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
            item = item if isinstance(item, dict) else to_builtins(item)
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


def starting_with_user(
    history: Sequence[Any],
    new: Sequence[Any],
    links: GetLinks,
    has_no_user_content: Callable[[Any], bool],
    empty: Any,
) -> list[Any]:
    """Return *history* from its first message of the user, for a provider that requires it first.

    A limit may have cut that message off before a call that *new* answers. The call must stay, so
    *empty* takes the place of the message.

    Args:
        history: The items of the history, oldest first.
        new: The items of the request, in order.
        links: Returns the links of an item.
        has_no_user_content: Returns True for an item that the provider refuses at the start.
        empty: An empty message of the user.
    """
    past = list(dropwhile(has_no_user_content, history))
    first = min(answered_positions(history, new, links), default=len(history))
    return past if first >= len(history) - len(past) else [empty, *history[first:]]


def without_refused_exchanges(
    history: Sequence[Any], new: Sequence[Any], links: GetLinks, is_refused: Callable[[Any], bool]
) -> Sequence[Any]:
    """Leave out each exchange of *history* in which the provider refused to reply.

    If the refused exchange were sent again, Anthropic would go on refusing
    (https://platform.claude.com/docs/en/test-and-evaluate/strengthen-guardrails/handle-streaming-refusals).
    The last exchange stays if *new* continues it.

    Args:
        history: The items of the history, oldest first.
        new: The items of the request.
        links: Returns the links of an item.
        is_refused: Returns True for the reply of a refused exchange.
    """
    if not any(map(is_refused, history)):
        return history

    exchanges = _exchanges(history, links)
    goes_on = not new or bool(links(new[0]).results)
    last = exchanges[-1]
    return [
        item
        for exchange in exchanges
        if (goes_on and exchange is last) or not any(map(is_refused, exchange))
        for item in exchange
    ]


def _exchanges(history: Sequence[Any], links: GetLinks) -> list[list[Any]]:
    """Return *history* in exchanges; consecutive messages of the user start one together."""
    exchanges: list[list[Any]] = [[]]
    was_start = False
    for item in history:
        is_start = links(item).starts_exchange
        if is_start and not was_start:
            exchanges.append([])
        exchanges[-1].append(item)
        was_start = is_start
    return exchanges


# Helpers for the rules of several providers


def is_blank(text: object) -> bool:
    r"""Return True if *text* is a string that is empty or only white space.

    >>> from tower_memory.dialects.toolkit import is_blank
    >>> is_blank(" \n"), is_blank("Hi"), is_blank(None)
    (True, False, False)
    """
    return isinstance(text, str) and (not text or text.isspace())


def is_blank_part(part: object) -> bool:
    """Return True if *part* is a text part whose text is blank."""
    return (
        isinstance(part, dict)
        and part.get("type") in ("text", "input_text", "output_text")
        and is_blank(part.get("text"))
    )


def is_json_object(arguments: object) -> bool:
    """Return True if *arguments* is a string with a JSON object.

    >>> from tower_memory.dialects.toolkit import is_json_object
    >>> is_json_object('{"city": "Rome"}'), is_json_object("[1]"), is_json_object({})
    (True, False, False)
    """
    return isinstance(arguments, str) and decode_object(arguments) is not None


def passes_nothing(arguments: object) -> bool:
    """Return True if *arguments* are None, blank text or the text ``null``."""
    return arguments is None or is_blank(arguments) or arguments == "null"


def mend_arguments(arguments: object) -> str:
    r"""Return *arguments* as a string with a JSON object, for a call that a result answers.

    Blank arguments and None become ``{}``: the model passed no arguments. A dict is encoded. All
    other arguments that are no JSON object are quoted under the key ``INVALID_JSON``, as Anthropic
    suggests
    (https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming).

    >>> from tower_memory.dialects.toolkit import mend_arguments
    >>> mend_arguments('{"city": "Ro')
    '{"INVALID_JSON":"{\\"city\\": \\"Ro"}'
    >>> mend_arguments("")
    '{}'
    """
    if passes_nothing(arguments):
        return "{}"
    if isinstance(arguments, dict):
        return msgspec.json.encode(arguments).decode()
    if is_json_object(arguments):
        return str(arguments)
    return msgspec.json.encode({INVALID_JSON: arguments}).decode()
