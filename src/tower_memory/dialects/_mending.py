"""Making a valid conversation of a history that was cut or broken off.

1. A result whose call is not there is left out, if it is old; a new one is an error.
2. A call without its result is answered as interrupted, if it is old: it will never be answered
   otherwise. Calls that the request itself makes or answers are left alone.
3. What is valid stays as it is, in its order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Final

from tower_memory._shapes import calls_of, results_of

INTERRUPTED: Final = "(interrupted: this call has no result)"


@dataclass(slots=True)
class _Said:
    """An item, those of its calls that are unanswered, and what was said to answer the others."""

    item: Any
    unanswered: list[str]
    old: bool
    results: list[Any] = dataclass_field(default_factory=list[Any])


def mended(
    history: Sequence[Any],
    new: Sequence[Any],
    *,
    interrupted: Callable[[list[str]], Sequence[Any]],
    without: Callable[[Any, set[str]], Any | None],
) -> list[Any]:
    """The history and the new items as they can follow each other.

    Args:
        history: The old items.
        new: Those of the request.
        interrupted: Makes the items that answer these calls as interrupted.
        without: An item without its results of these calls; None where nothing of it is left.

    Raises:
        ValueError: A new result is of a call that nobody waits for.
    """
    said: list[_Said] = []
    for number, item in enumerate([*history, *new]):
        old = number < len(history)
        callers = {call: _caller(said, call) for call in results_of(item)}
        orphans = {call for call, caller in callers.items() if caller is None}
        if orphans and not old:
            msg = (
                f"the request has a result of the tool call {min(orphans)!r}, for which no call in "
                "the loaded history waits; load more of it, or send the call along"
            )
            raise ValueError(msg)
        kept = without(item, orphans) if orphans else item
        answered = None
        for call, caller in callers.items():
            if caller is not None:
                caller.unanswered.remove(call)
                answered = caller
        if kept is None:
            continue
        if answered is None:
            said.append(_Said(kept, calls_of(kept), old))
        else:
            answered.results.append(kept)
    conversation: list[Any] = []
    for each in said:
        conversation += [each.item, *each.results]
        if each.old and each.unanswered:
            conversation += interrupted(each.unanswered)
    return conversation


def _caller(said: list[_Said], call: str) -> _Said | None:
    """The last to make *call*, if it is unanswered."""
    return next((each for each in reversed(said) if call in each.unanswered), None)
