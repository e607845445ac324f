"""What is new in a conversation that is handed over whole.

1. A request that carries the whole conversation begins with what its session holds. What follows
   is new; a request that begins otherwise contradicts the session.
2. A response that carries the whole conversation begins with what the service was given. What
   follows is new. It may have only the end of that, after something else or nothing in the place
   of the rest; where that leaves a choice, it repeats as much as it can, as early as it can.
   A response that begins with an answer, and not with all that was given, has only what is new.
3. Either side may say more of an item than the other, such as an id; null says nothing. Where both
   say something, they must say the same; text may be spelled as one part or several, and without
   the mark of an interruption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from tower_memory._errors import SessionConflict
from tower_memory._items import as_chat
from tower_memory._shapes import INTERRUPTED_REPLY, MISSING, field, opens


def may_be_whole(response: object) -> bool:
    """Whether *response* may carry the whole conversation: a list, or something with messages."""
    return isinstance(response, (list, tuple)) or field(response, "messages") is not MISSING


def unsaid(session_id: str, history: Sequence[Any], posted: Sequence[Any]) -> Sequence[Any]:
    """What *posted*, the whole conversation, has beyond *history*, the session's.

    Raises:
        SessionConflict: It is nothing, or *posted* does not begin with *history*.
    """
    held = as_chat(history)
    for position, (mine, theirs) in enumerate(zip(posted, held, strict=False)):
        if not agree(mine, theirs):
            reason = f"item {position} of the request is not what the session holds there"
            raise SessionConflict(session_id, reason=reason)
    if len(posted) <= len(held):
        reason = (
            f"the request has nothing new: its {len(posted)} items are among the {len(held)} that "
            "the session holds"
        )
        raise SessionConflict(session_id, reason=reason)
    return posted[len(held) :]


def after(given: Sequence[Any], conversation: Sequence[Any]) -> Sequence[Any]:
    """What *conversation* has beyond what was *given*, however little of that it repeats."""
    if all(map(agree, given, conversation)) and len(conversation) >= len(given):
        return conversation[len(given) :]
    if not conversation or not opens(conversation[0]):
        return conversation
    repeated = [_common_end(given, conversation[:end]) for end in range(len(conversation) + 1)]
    return conversation[repeated.index(max(repeated)) :]


def agree(one: Any, other: Any) -> bool:
    """Whether what both say is the same."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        pairs = [(one[key], other[key]) for key in one.keys() & other.keys()]
        said = [pair for pair in pairs if None not in pair]
        return all(agree(*pair) for pair in said) and bool(pairs or one == other)
    text, other_text = _text(one), _text(other)
    if text is not None and other_text is not None:
        return text == other_text
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(agree, one, other))
    return bool(one == other)


def _common_end(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many of their last items agree."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: agree(*pair), pairs))


def _text(content: Any) -> str | None:
    """What *content* says, if it is text or parts of text and nothing else."""
    parts = content if isinstance(content, list) else [content]
    said = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    texts = [text for text in said if isinstance(text, str)]
    if len(texts) != len(parts):
        return None
    return "".join(texts).removesuffix(INTERRUPTED_REPLY).removesuffix("\n\n")
