"""The window whose start moves in steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, final

from tower_memory._arguments import check_int, shown
from tower_memory._history import History
from tower_memory.windows._exchanges import exchange_starts, items_from
from tower_memory.windows._newest import NewestItems


@final
@dataclass(frozen=True, slots=True)
class Stepped:
    """A window whose start moves in steps, for the prompt caches of providers.

    It starts at the first exchange at or after a position of the session that is a multiple of
    *by*, and never before the start of *window*. If no exchange starts there, it starts where
    *window* starts, so *by* should be at most half of the items that *window* keeps. While *window*
    keeps the whole session, this window keeps it too. The guide of `tower_memory.windows` has an
    example.

    Attributes:
        window: The window that limits this one: `LastTurns`, `LastItems`, `TokenBudget` or
            `Shortest`.
        by: Number of items of a step; 1 or more.

    Raises:
        TypeError: *window* is no such window, or *by* is no integer.
        ValueError: *by* is below 1.
    """

    window: NewestItems
    _: KW_ONLY
    by: int = 20

    def __post_init__(self) -> None:
        if not isinstance(self.window, NewestItems):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = (
                "window must be LastTurns, LastItems, TokenBudget or Shortest, such as "
                f"LastTurns(20), got {shown(self.window)}"
            )
            raise TypeError(msg)
        check_int("by", self.by, least=1)

    def needs(self, loaded: History[Any] | None, /) -> int:
        """See `BoundedWindow.needs`. This window needs no more than *window*."""
        return self.window.needs(loaded)

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """See `Window`."""
        return items_from(history, self.start(history))

    def start(self, history: History[Any], /) -> int:
        """Return the index of the first item to keep; the length of *history* if none is kept."""
        start = self.window.start(history)
        position = history.offset + start
        if position == 0:
            return 0

        step = -(-position // self.by) * self.by  # rounded up
        later = (each for each in exchange_starts(history) if history.offset + each >= step)
        return next(later, start)
