"""Making a valid conversation of a history that was cut or broken off.

1. A result whose call is not there is left out, if it is old; a new one is an error.
2. A call without its result is answered as interrupted, if it is old: it will never be answered
   otherwise. Calls that the request itself makes or answers are left alone.
3. A result that is too far from its call goes to it.
4. What is valid stays as it is, in its order; what was mended is valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from tower_memory._shapes import calls_of, is_plain, results_of

INTERRUPTED: Final = "(interrupted: this call has no result)"


@dataclass(slots=True)
class _Said:
    """An item, and those of its calls that are unanswered."""

    item: Any
    old: bool
    linked: bool  # makes calls, or holds results
    unanswered: list[str]


_Stretch = list[_Said]
"""Items within which calls may have their results: what follows each other without a break."""


def mended(
    history: Sequence[Any],
    new: Sequence[Any],
    *,
    breaks: Callable[[Any], bool],
    answered: Callable[[list[Any], list[str]], Sequence[Any]],
    without: Callable[[Any, set[str]], Any | None],
    at_once: bool = False,
) -> list[Any]:
    """The history and the new items as they can follow each other.

    Args:
        history: The old items.
        new: Those of the request.
        breaks: Whether an item may not stand between a call and its result.
        answered: Given a run of calls and results, and which of the calls are unanswered, the run
            with these answered as interrupted.
        without: An item without its results of these calls; None where nothing of it is left.
        at_once: Whether all results of one item's calls are in one item.

    Raises:
        ValueError: A new result is of a call that nobody waits for.
    """
    items = [*history, *new]
    if _is_settled(items, breaks, at_once=at_once):
        return items
    stretches: list[_Stretch] = []
    for number, item in enumerate(items):
        old = number < len(history)
        results = results_of(item)
        waiting = {call: _waiting(stretches, call) for call in results}
        orphans = {call for call, found in waiting.items() if found is None}
        if orphans and not old:
            msg = (
                f"the request has a result of the tool call {min(orphans)!r}, for which no call in "
                "the loaded history waits; load more of it, or send the call along"
            )
            raise ValueError(msg)
        kept = without(item, orphans) if orphans else item
        if kept is None:
            continue
        calls = calls_of(kept)
        said = _Said(kept, old, bool(calls or results), calls)
        home: _Stretch | None = None
        for call, found in waiting.items():
            if found is not None:
                home, caller = found
                caller.unanswered.remove(call)
        if home is not None:
            home.append(said)
        elif stretches and not breaks(kept):
            stretches[-1].append(said)
        else:
            stretches.append([said])
    return [item for stretch in stretches for item in _settled(stretch, answered)]


def _is_settled(items: list[Any], breaks: Callable[[Any], bool], *, at_once: bool) -> bool:
    """Whether each call among *items* has its result where it belongs, and nothing is to mend."""
    waiting: set[str] = set()
    for item in items:
        if waiting:
            results = results_of(item)
            if not waiting.issuperset(results) or (breaks(item) and not results):
                return False
            waiting.difference_update(results)
            if results and waiting and at_once:
                return False
        elif is_plain(item):
            continue
        elif results_of(item):
            return False
        waiting.update(calls_of(item))
    return not waiting


def is_no_result(item: Any) -> bool:
    """What breaks a run where all results follow their calls at once."""
    return not results_of(item)


def nothing_left(_item: Any, _calls: set[str]) -> None:
    """What is left of an item that is one result and nothing else."""


def _waiting(stretches: list[_Stretch], call: str) -> tuple[_Stretch, _Said] | None:
    """Who made *call* last, if it is unanswered, and where."""
    for stretch in reversed(stretches):
        for said in reversed(stretch):
            if call in said.unanswered:
                return stretch, said
    return None


def _settled(
    stretch: _Stretch, answered: Callable[[list[Any], list[str]], Sequence[Any]]
) -> Iterator[Any]:
    """The items of *stretch*, and what answers those of its calls that are old and unanswered."""
    for linked, group in groupby(stretch, key=lambda said: said.linked):
        run = list(group)
        items = [said.item for said in run]
        unanswered = [call for said in run if said.old for call in said.unanswered]
        yield from answered(items, unanswered) if linked else items
