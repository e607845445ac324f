"""Reconcile: find the new items in a request or response that carries the whole conversation.

1. A request may carry the whole conversation. It must begin with the session's items; tool calls,
   tool results and reasoning may be missing, since a front end need not show them. The remaining
   items are new. A request that begins otherwise contradicts the session.
2. A response may carry the whole conversation. It then begins with the items that the service
   received, and the remaining items are new. A response may also repeat only the last received
   items; other items may come before them. If there are several ways to match, the longest match
   counts; of equally long ones, the first. If a response does not begin with a user's message, and
   does not repeat all received items, then all its items are new.
3. Two spellings of an item may differ in fields that only one of them has, such as an id. Null
   counts as an absent field, except in ``content``, where it counts as empty text. The fields that
   both have must agree. Text may be one part or several, and may have other space around it. A
   front end may show only the beginning of an interrupted reply.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from tower_memory._errors import SessionConflict
from tower_memory._fields import MISSING, field
from tower_memory._items import INTERRUPTED_REPLY, as_chat
from tower_memory._tool_links import GetLinks


def may_be_whole(response: object) -> bool:
    """Return True if *response* may carry the whole conversation: a sequence, or with messages."""
    return isinstance(response, (list, tuple)) or field(response, "messages") is not MISSING


def new_in_request(
    session_id: str, history: Sequence[Any], conversation: Sequence[Any], links: GetLinks
) -> Sequence[Any]:
    """Return the items of *conversation* that follow the items of *history* (rule 1).

    Raises:
        SessionConflict: *conversation* has no new items, or does not begin with *history*.
    """
    position = 0
    for item in as_chat(history):
        if position < len(conversation) and same_message(conversation[position], item):
            position += 1
        elif not _may_be_hidden(item, links):
            reason = _contradiction(conversation, position, item)
            raise SessionConflict(session_id, reason=reason)

    if position == len(conversation):
        reason = f"the request has no new items; items that the session has too: {position}"
        raise SessionConflict(session_id, reason=reason)
    return conversation[position:]


def _may_be_hidden(item: Any, links: GetLinks) -> bool:
    """Return True if a front end need not show *item*: a tool call, a tool result or reasoning.

    This includes every item that has a type and no role, such as a handoff.
    """
    has_only_type = isinstance(field(item, "type"), str) and field(item, "role") is MISSING
    if has_only_type:
        return True
    calls, results, _ = links(item)
    return bool(calls or results)


def _contradiction(conversation: Sequence[Any], position: int, item: Any) -> str:
    """Return the reason why *conversation* contradicts the stored *item*, for an error message."""
    if position == len(conversation):
        return f"the session goes on where the request ends; items in the request: {position}"

    where = f"item {position} of the request, instructions not counted,"
    role, stored_role = field(conversation[position], "role"), field(item, "role")
    if role != stored_role:
        return f"{where} has the role {role!r}; the session has {stored_role!r} there"
    return f"{where} has other content than the session"


def new_in_response(
    received: Iterable[Any], conversation: Sequence[Any], links: GetLinks
) -> Sequence[Any]:
    """Return the items of *conversation* that follow the repeated *received* items (rule 2).

    >>> from tower_memory.dialects import ChatCompletions
    >>> from tower_memory.dialects.toolkit import new_in_response
    >>> question = {"role": "user", "content": "Hi"}
    >>> answer = {"role": "assistant", "content": "Hello!"}
    >>> new_in_response([question], [question, answer], ChatCompletions().links)
    [{'role': 'assistant', 'content': 'Hello!'}]

    Args:
        received: The items that the service received, oldest first. They may be many; if the
            response begins with new items, they are read only to the first that differs.
        conversation: The items of the response, oldest first.
        links: Returns the links of an item.
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

    # The response begins with a user's message, but not with all received items: find the longest
    # repeated end of these. The search is quadratic in the length of the response.
    received = [*start, *rest]
    repeated = [_common_end(received, conversation[:end]) for end in range(len(conversation) + 1)]
    return conversation[repeated.index(max(repeated)) :]


def same_message(one: Any, other: Any) -> bool:
    """Return True if *one* and *other* may be two spellings of the same item (rule 3)."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        common = one.keys() & other.keys()
        pairs = ([_without_null_content(key, each[key]) for each in (one, other)] for key in common)
        # Without common fields, only equal mappings agree.
        return all(same_message(*pair) for pair in pairs) and bool(common or one == other)

    text, other_text = _text(one), _text(other)
    if text is not None and other_text is not None:
        return _same_text(text, other_text)
    if None in (one, other):  # null counts as absent, which agrees with everything
        return True

    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_message, one, other))
    return bool(one == other)


def _without_null_content(key: str, value: Any) -> Any:
    """Return an empty text for a content of None; otherwise return *value*."""
    return "" if value is None and key == "content" else value


def _same_text(text: str, other: str) -> bool:
    """Return True if the texts agree without the space around them.

    If a text is marked as interrupted, the shorter text need only begin the longer one.
    """
    texts = [each.strip().removesuffix(INTERRUPTED_REPLY).strip() for each in (text, other)]
    shown = min(map(len, texts))
    was_interrupted = INTERRUPTED_REPLY in (text + other)
    return texts[0] == texts[1] or (was_interrupted and texts[0][:shown] == texts[1][:shown])


def _common_end(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return how many items agree, counted from the end."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: same_message(*pair), pairs))


def _text(content: Any) -> str | None:
    """Return the text of *content*, or None if it is neither text nor a list of text parts."""
    parts = content if isinstance(content, list) else [content]
    said = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    texts = [text for text in said if isinstance(text, str)]
    return "".join(texts) if len(texts) == len(parts) else None
