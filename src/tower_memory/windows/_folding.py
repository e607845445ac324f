"""The decisions of `Summarised`: the next fold, and the items to show.

1. A fold is a run of exchanges by which a summary is extended. It ends where a turn and an exchange
   start, at or before the kept items. So a summary covers whole turns, and the items after it are a
   valid conversation.
2. There is a fold when *every* exchanges lie between the summary and the kept items. Fewer are
   shown as they are, so nothing is hidden, and requests share their prefix until the next fold.
3. A call of the service gets a bounded batch of whole exchanges. A fold is one batch, unless its
   first turn does not fit into one: a summary cannot end within a turn.
4. If *every* exchanges or more could not be summarised, they are left out, as without a summary. So
   the input of the model is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple, final

from tower_memory._history import History
from tower_memory._token_estimate import estimated_tokens
from tower_memory.windows._exchanges import exchange_starts


@final
class Fold(NamedTuple):
    """The exchanges by which a summary is extended.

    Attributes:
        batches: The exchanges in parts, one for each call of the service, oldest first.
        turn_id: The last turn of the exchanges.
        end: Position of the item after them in the session.
        is_full: Whether exchanges are left for the next fold, because one batch cannot hold all.
    """

    batches: Sequence[Sequence[Any]]
    turn_id: str
    end: int
    is_full: bool


@final
class NoEndError(Exception):
    """Raised if no summary can end between the exchanges to summarise."""


def find_fold(
    part: History[Any], start: int, stop: int, *, every: int, max_tokens: int
) -> Fold | None:
    """Return the next fold; None if there are too few exchanges.

    Args:
        part: A part of the session.
        start: Index of the first item that the summary does not cover.
        stop: Index of the first kept item; the length of *part* if the kept items follow later.
        every: Minimum number of exchanges between *start* and *stop*.
        max_tokens: Maximum number of estimated tokens of a batch; one exchange may be longer.

    Raises:
        NoEndError: There are enough exchanges, but no turn starts with one of them.
    """
    starts = [each for each in exchange_starts(part) if start <= each <= stop]
    if sum(each < stop for each in starts) < every:
        return None

    cuts = [each for each in starts if each > start]
    turns = _turns_by_start(part)
    ends = [cut for cut in cuts if cut in turns]
    if not ends:
        raise NoEndError

    # The number of tokens before each item, from *start* to the last possible end.
    counts = [estimated_tokens(item) for item in part[start : ends[-1]]]
    totals = [0, *accumulate(counts)]
    tokens = dict(enumerate(totals, start))

    end = max((each for each in ends if tokens[each] <= max_tokens), default=ends[0])
    batches = _batches(part, start, [cut for cut in cuts if cut <= end], tokens, max_tokens)
    last_turn = part.turns[turns[end] - 1]
    return Fold(batches, last_turn.turn_id, part.offset + end, is_full=end < ends[-1])


def first_shown(history: History[Any], start: int, stop: int, *, every: int) -> int:
    """Return the index of the first item to show after a summary.

    Args:
        history: The loaded history.
        start: Index of the first item that the summary does not cover; negative if the item is not
            loaded.
        stop: Index of the first kept item.
        every: See `find_fold`.
    """
    start = max(start, 0)
    if start >= stop:
        return stop

    starts = exchange_starts(history)
    if sum(start <= each < stop for each in starts) >= every:
        return stop  # rule 4

    # A late result may have joined exchanges since the summary was made.
    return max((each for each in starts if each <= start), default=0)


def _turns_by_start(part: History[Any]) -> dict[int, int]:
    """Return the index of the turn that starts at each item.

    If several turns start there, all but the last have no items; the first of them counts.
    """
    return {turn.position: index for index, turn in reversed([*enumerate(part.turns)])}


def _batches(
    part: History[Any], start: int, cuts: Sequence[int], tokens: dict[int, int], max_tokens: int
) -> list[Sequence[Any]]:
    """Divide the items from *start* to the last of *cuts*, at *cuts*, into batches."""
    batches: list[Sequence[Any]] = []
    end = start

    for cut in cuts:
        if tokens[cut] - tokens[start] > max_tokens and start < end:
            batches.append(part[start:end])
            start = end
        end = cut

    return [*batches, part[start:end]]
