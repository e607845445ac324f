"""What is new in a conversation that is handed over whole.

1. A request that carries the whole conversation begins with what its session holds, but perhaps
   for calls of tools, their results and reasoning, which a front end need not show. What follows
   is new; a request that begins otherwise contradicts the session.
2. A response that carries the whole conversation begins with what the service was given. What
   follows is new. It may have only the end of that, after something else or nothing in the place
   of the rest; where that leaves a choice, it repeats as much as it can, as early as it can.
   A response that begins with an answer, and not with all that was given, has only what is new.
3. Either side may say more of an item than the other, such as an id; null says nothing. Where both
   say something, they must say the same; text may be spelled as one part or several, with other
   space around it, and where it was interrupted, be shown only so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from tower_memory._errors import SessionConflict
from tower_memory._items import as_chat
from tower_memory._shapes import INTERRUPTED_REPLY, MISSING, calls_of, field, opens, results_of


def may_be_whole(response: object) -> bool:
    """Whether *response* may carry the whole conversation: a list, or something with messages."""
    return isinstance(response, (list, tuple)) or field(response, "messages") is not MISSING


def unsaid(session_id: str, history: Sequence[Any], posted: Sequence[Any]) -> Sequence[Any]:
    """What *posted*, the whole conversation, has beyond *history*, the session's.

    Raises:
        SessionConflict: It is nothing, or *posted* does not begin with *history*.
    """
    position = 0
    for item in as_chat(history):
        if position < len(posted) and agree(posted[position], item):
            position += 1
        elif not _is_unseen(item):
            raise SessionConflict(session_id, reason=_contradiction(posted, position, item))
    if position == len(posted):
        reason = f"the request has nothing new, as the session holds all of its {position} items"
        raise SessionConflict(session_id, reason=reason)
    return posted[position:]


def _is_unseen(item: Any) -> bool:
    """Whether a front end may well not show *item*: a call of a tool, its result, reasoning."""
    is_step = isinstance(field(item, "type"), str) and field(item, "role") is MISSING
    return is_step or bool(calls_of(item) or results_of(item))


def _contradiction(posted: Sequence[Any], position: int, item: Any) -> str:
    if position == len(posted):
        return f"the session goes on where the request ends, after {position} items"
    mine, theirs = (field(each, "role") for each in (posted[position], item))
    what = "says something else" if mine == theirs else f"is of the role {mine!r}, not {theirs!r}"
    return f"item {position} of the request {what} than what the session holds there"


def after(given: Iterable[Any], conversation: Sequence[Any]) -> Sequence[Any]:
    """What *conversation* has beyond what was *given*, however little of that it repeats.

    What was given may be long, and is gone through only as far as it has to be.
    """
    rest, begin = iter(given), list[Any]()
    for item in rest:
        begin.append(item)
        if len(begin) > len(conversation) or not agree(item, conversation[len(begin) - 1]):
            break
    else:
        return conversation[len(begin) :]
    if not conversation or not opens(conversation[0]):
        return conversation
    given = [*begin, *rest]
    repeated = [_common_end(given, conversation[:end]) for end in range(len(conversation) + 1)]
    return conversation[repeated.index(max(repeated)) :]


def agree(one: Any, other: Any) -> bool:
    """Whether what both say is the same."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        common = one.keys() & other.keys()
        pairs = ([_said(key, each[key]) for each in (one, other)] for key in common)
        return all(agree(*pair) for pair in pairs) and bool(common or one == other)
    text, other_text = _text(one), _text(other)
    if text is not None and other_text is not None:
        return _same(text, other_text)
    if None in (one, other):  # which says nothing
        return True
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(agree, one, other))
    return bool(one == other)


def _said(key: str, value: Any) -> Any:
    """What null says under *key*: that there is no content, else nothing."""
    return "" if value is None and key == "content" else value


def _same(text: str, other: str) -> bool:
    """Whether these are the same but for space around them, or, where one was interrupted, as far
    as that was shown.
    """
    texts = [each.strip().removesuffix(INTERRUPTED_REPLY).strip() for each in (text, other)]
    shown = min(map(len, texts))
    was_interrupted = INTERRUPTED_REPLY in (text + other)
    return texts[0] == texts[1] or (was_interrupted and texts[0][:shown] == texts[1][:shown])


def _common_end(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many of their last items agree."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: agree(*pair), pairs))


def _text(content: Any) -> str | None:
    """What *content* says, if it is text or parts of text."""
    parts = content if isinstance(content, list) else [content]
    said = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    texts = [text for text in said if isinstance(text, str)]
    return "".join(texts) if len(texts) == len(parts) else None
