"""Reconcile: find the new items in a request or response that carries the whole conversation.

1. A request may carry the whole conversation as a front end shows it (`_shown`). It must begin with
   the session's items, in their order, except those that the front end hides. The remaining items
   are new. A request that begins otherwise, or has no new items, contradicts the session.
2. A shown message is matched with the first stored item that it agrees with. If the rest of the
   request then contradicts the session, that item is hidden instead and the message is matched with
   a later one. So as many shown messages as possible count as stored: none is stored a second time.
   A new item is lost only if the front end hides a stored item, and then sends an equal one, such
   as an equal result for the same call id. It then looks like the stored one.
3. A response may carry the whole conversation. It then begins with the items that the service
   received, and the remaining items are new. A response may also repeat only the last received
   items; other items may come before them. If there are several ways to match, the longest match
   counts; of equally long ones, the first. If a response does not begin with a user's message, and
   does not repeat all received items, then all its items are new.
4. A request without the whole conversation may still repeat the last reply at its start. A request
   continues a paused reply of Anthropic in this way, and a program may send a tool call along with
   its result. Repeated items are not new if the model made the first of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any, Final, NamedTuple

from tower_memory._arguments import shown_name
from tower_memory._errors import SessionConflict
from tower_memory._fields import MISSING, field
from tower_memory._items import as_chat
from tower_memory._shown import may_be_hidden, same_message, text_after
from tower_memory._tool_links import GetLinks

_EDIT_REMEDY: Final = (
    "send the conversation as the session has it; to continue from an earlier point, call "
    "store.pop once for each later item, or use another session"
)


def may_be_whole(response: object) -> bool:
    """Return True if *response* may carry the whole conversation: a list, or has ``messages``."""
    return isinstance(response, (list, tuple)) or field(response, "messages") is not MISSING


def new_in_request(
    session_id: str, history: Sequence[Any], conversation: Sequence[Any], links: GetLinks
) -> Sequence[Any]:
    """Return the items of *conversation* that follow the items of *history* (rules 1 and 2).

    Raises:
        SessionConflict: *conversation* has no new items, or does not begin with *history*.
    """
    comparison = _Comparison(as_chat(history), conversation, links)
    place = comparison.furthest_place()

    if not comparison.is_end(place):
        raise SessionConflict(
            session_id, reason=comparison.contradiction(place), remedy=_EDIT_REMEDY
        )
    if place.shown == len(conversation):
        reason = f"the request has no new items; items that the session has too: {place.shown}"
        raise SessionConflict(
            session_id, reason=reason, remedy="add a message after the stored ones"
        )
    return conversation[place.shown :]


class _Place(NamedTuple):
    """A place in a stored conversation, and the place in the shown one that belongs to it.

    Attributes:
        stored: Number of stored items before this place; each is matched or hidden.
        shown: Number of shown messages before this place; each is matched.
        rest: End of the text of the next shown message, if stored items have matched the text
            before it; otherwise empty.
    """

    stored: int
    shown: int
    rest: str


class _Comparison:
    """The comparison of a stored conversation with a shown one (rule 2).

    It is a depth-first search that tries each place once. It takes linear time, except where one
    shown message joins the texts of many stored ones and the request contradicts the session.
    """

    def __init__(self, stored: Sequence[Any], shown: Sequence[Any], links: GetLinks) -> None:
        self._stored = stored
        self._shown = shown
        self._links = links

    def furthest_place(self) -> _Place:
        """Return the place after all stored items; without one, the furthest place found."""
        furthest = _Place(0, 0, "")
        tried = {furthest}
        path = [self._next_places(furthest)]

        while path and not self.is_end(furthest):
            place = next(path[-1], None)
            if place is None:
                path.pop()
            elif place not in tried:
                tried.add(place)
                path.append(self._next_places(place))
                # Of equally far places, the first counts. But only a place without a rest is an
                # end, so an end replaces an equally far place.
                if place.stored > furthest.stored or self.is_end(place):
                    furthest = place

        return furthest

    def is_end(self, place: _Place) -> bool:
        """Return True if all stored items, and no part of a shown message, are before *place*."""
        return place.stored == len(self._stored) and not place.rest

    def _next_places(self, place: _Place) -> Iterator[_Place]:
        """Yield the places after the next stored item: where it is matched, where it is hidden."""
        number, position, rest = place
        if number == len(self._stored):
            return

        item, after = self._stored[number], None
        if position < len(self._shown):
            after = text_after(self._shown[position], item, rest)
            if after is not None:
                yield _Place(number + 1, position if after else position + 1, after)

        if may_be_hidden(item, self._links):
            # If the item agrees with the whole message, another item that may be hidden is no
            # better match. Try only the next item that must be shown.
            following = self._next_fixed[number] if after == "" else number + 1
            yield _Place(following, position, rest)

    @cached_property
    def _next_fixed(self) -> list[int]:
        """For each stored item, the index of the first item from there on that must be shown.

        If there is no such item, the number of stored items stands for it.
        """
        numbers = [len(self._stored)]
        for number in range(len(self._stored) - 1, -1, -1):
            is_hideable = may_be_hidden(self._stored[number], self._links)
            numbers.append(numbers[-1] if is_hideable else number)
        return numbers[::-1]

    def contradiction(self, place: _Place) -> str:
        """Return the reason why the request contradicts the session at *place*, for an error."""
        if place.shown == len(self._shown):
            return (
                f"the session goes on where the request ends; items in the request: {place.shown}"
            )

        where = f"item {place.shown} of the request, instructions not counted,"
        if not place.rest:
            role = field(self._shown[place.shown], "role")
            stored_role = field(self._stored[place.stored], "role")
            if role != stored_role and MISSING not in (role, stored_role):
                roles = shown_name(role), shown_name(stored_role)
                return f"{where} has the role {roles[0]}; the session has {roles[1]} there"
        return f"{where} has other content than the session"


def without_repeated(
    history: Sequence[Any], new: Sequence[Any], links: GetLinks
) -> tuple[int, Sequence[Any]]:
    """Find the items at the start of *new* that repeat the end of *history* (rule 4).

    The results of repeated calls may stand between these, each after its call.

    Returns:
        How many items of *history* are repeated, and the items of *new* without them.
    """
    first = links(new[0]) if history and new else None
    if first is None or first.is_input:
        return 0, new

    end = next((place for place, item in enumerate(new) if links(item).starts_exchange), len(new))
    outputs = [place for place in range(end) if not links(new[place]).results]
    for places in (range(len(new)), outputs):
        for count in range(min(len(history), len(places)), 0, -1):
            repeated = [new[place] for place in places[:count]]
            if all(map(_is_repeated, history[len(history) - count :], repeated)):
                kept = set(range(len(new))).difference(places[:count])
                return count, [new[place] for place in sorted(kept)]
    return 0, new


_NOTES: Final = frozenset({"finish_reason", "id", "status", "stop_reason"})
"""Fields that only the stored or only the repeated item may have."""


def _is_repeated(stored: Any, sent: Any) -> bool:
    """Return True if *sent* is the item *stored*; null and empty lists count as absent fields."""
    if not isinstance(stored, Mapping) or not isinstance(sent, Mapping):
        return bool(stored == sent)
    one, other = (
        {key: value for key, value in item.items() if value is not None and value != []}
        for item in (stored, sent)
    )
    for name in _NOTES - (one.keys() & other.keys()):
        one.pop(name, None)
        other.pop(name, None)
    return one == other


def new_in_response(
    received: Iterable[Any], conversation: Sequence[Any], links: GetLinks
) -> Sequence[Any]:
    """Return the items of *conversation* that follow the repeated *received* items (rule 3).

    >>> from tower_memory.dialects import ChatCompletions
    >>> from tower_memory.dialects.toolkit import new_in_response
    >>> question = {"role": "user", "content": "Hi"}
    >>> answer = {"role": "assistant", "content": "Hello!"}
    >>> new_in_response([question], [question, answer], ChatCompletions().links)
    [{'role': 'assistant', 'content': 'Hello!'}]

    Args:
        received: The items that the service received, oldest first. An iterator is read lazily: if
            the response begins with new items, only up to the first item that differs.
        conversation: The items of the response, oldest first.
        links: Function that returns the links of an item.

    Returns:
        The new items, in order; all items of *conversation* if it repeats none.
    """
    rest, start = iter(received), list[Any]()
    for item in rest:
        start.append(item)
        if len(start) > len(conversation) or not same_message(item, conversation[len(start) - 1]):
            break
    else:
        return conversation[len(start) :]

    if not conversation or not links(conversation[0]).starts_exchange:
        return conversation

    # The response begins with a user's message, but not with all received items. Find the longest
    # end of the received items that it repeats. This takes quadratic time only if the items repeat
    # each other.
    received = [*start, *rest]
    repeated = [_common_end(received, conversation, end) for end in range(len(conversation) + 1)]
    return conversation[repeated.index(max(repeated)) :]


def _common_end(received: Sequence[Any], conversation: Sequence[Any], end: int) -> int:
    """Return how many of the last *received* items are the items of *conversation* before *end*."""
    numbers = range(1, min(len(received), end) + 1)
    agree = (same_message(received[-number], conversation[end - number]) for number in numbers)
    return sum(takewhile(bool, agree))
