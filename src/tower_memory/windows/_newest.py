"""The windows that keep the newest items of a history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import accumulate
from typing import Any, TypeAlias, final

from tower_memory._arguments import check_int, shown
from tower_memory._history import History
from tower_memory._token_estimate import estimated_tokens
from tower_memory.windows._exchanges import cut_start, exchange_starts, items_from

_FIRST_LOAD = 64
"""Number of items to load at first, if the items decide how many are needed."""


@final
@dataclass(frozen=True, slots=True)
class LastTurns:
    """The last exchanges, each from a user's message to the reply that ends it.

    A history with no more exchanges than these stays whole.

    Attributes:
        turns: Number of exchanges; 1 or more.

    Raises:
        TypeError: *turns* is not an integer.
        ValueError: *turns* is below 1.
    """

    turns: int

    def __post_init__(self) -> None:
        check_int("turns", self.turns, least=1)

    def needs(self, loaded: History[Any] | None, /) -> int:
        """See `BoundedWindow.needs`."""
        if loaded is None:
            return max(_FIRST_LOAD, 8 * self.turns)
        return next_need(loaded, is_enough=len(exchange_starts(loaded)) > self.turns)

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """See `Window`."""
        return items_from(history, self.start(history))

    def start(self, history: History[Any], /) -> int:
        """Return the index of the first item to keep; the length of *history* if none is kept."""
        starts = exchange_starts(history)
        return starts[-self.turns] if len(starts) > self.turns else 0


@final
@dataclass(frozen=True, slots=True)
class LastItems:
    """The newest items, from the start of an exchange.

    Attributes:
        items: Maximum number of items; 0 or more. If no exchange starts within these, the result
            is empty, or the last exchange if one of its tool calls has no result.

    Raises:
        TypeError: *items* is not an integer.
        ValueError: *items* is negative.
    """

    items: int

    def __post_init__(self) -> None:
        check_int("items", self.items, least=0)

    def needs(self, loaded: History[Any] | None, /) -> int:
        """See `BoundedWindow.needs`."""
        if loaded is None or len(loaded) <= self.items:
            return self.items + 1  # the additional item tells whether the window cuts
        return next_need(loaded, is_enough=bool(exchange_starts(loaded)))

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """See `Window`."""
        return items_from(history, self.start(history))

    def start(self, history: History[Any], /) -> int:
        """Return the index of the first item to keep; the length of *history* if none is kept."""
        return cut_start(history, max(0, len(history) - self.items))


@final
@dataclass(frozen=True, slots=True)
class TokenBudget:
    """The newest items that fit a budget of tokens, from the start of an exchange.

    Attributes:
        tokens: Maximum number of tokens; 0 or more. If no exchange starts within these, the result
            is empty, or the last exchange if one of its tool calls has no result.
        count: Function that returns the number of tokens of an item, 0 or more; the default is an
            estimate. The window calls it for every loaded item.

    Raises:
        TypeError: *tokens* is not an integer, or *count* is not callable.
        ValueError: *tokens* is negative.
    """

    tokens: int
    _: KW_ONLY
    count: Callable[[Any], int] = estimated_tokens

    def __post_init__(self) -> None:
        check_int("tokens", self.tokens, least=0)
        if not callable(self.count):
            msg = f"count must be a function from an item to its tokens, got {shown(self.count)}"
            raise TypeError(msg)

    def needs(self, loaded: History[Any] | None, /) -> int:
        """See `BoundedWindow.needs`."""
        if loaded is None:
            return _FIRST_LOAD
        is_cut = self._fitting(loaded) < len(loaded)
        return next_need(loaded, is_enough=is_cut and bool(exchange_starts(loaded)))

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """See `Window`."""
        return items_from(history, self.start(history))

    def start(self, history: History[Any], /) -> int:
        """Return the index of the first item to keep; the length of *history* if none is kept."""
        return cut_start(history, len(history) - self._fitting(history))

    def _fitting(self, history: History[Any]) -> int:
        """Return the number of newest items that fit the budget."""
        totals = accumulate(self.count(item) for item in reversed(history))
        return sum(1 for total in totals if total <= self.tokens)


@final
class Shortest:
    """The window with the fewest items of several: ``Shortest(LastTurns(20), TokenBudget(8000))``.

    Args:
        windows: One or more `LastTurns`, `LastItems` or `TokenBudget` windows.

    Raises:
        ValueError: No window is given.
    """

    def __init__(self, *windows: LastTurns | LastItems | TokenBudget) -> None:
        if not windows:
            msg = "windows must be one or more, got none"
            raise ValueError(msg)
        self.windows = windows

    def needs(self, loaded: History[Any] | None, /) -> int:
        """See `BoundedWindow.needs`. The smallest need is enough for the shortest window."""
        return min(window.needs(loaded) for window in self.windows)

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """See `Window`."""
        return items_from(history, self.start(history))

    def start(self, history: History[Any], /) -> int:
        """Return the index of the first item to keep; the length of *history* if none is kept."""
        return max(window.start(history) for window in self.windows)

    def __repr__(self) -> str:
        return f"Shortest({', '.join(map(repr, self.windows))})"


NewestItems: TypeAlias = LastTurns | LastItems | TokenBudget | Shortest
"""A window whose start depends on the newest items only."""


def next_need(loaded: History[Any], *, is_enough: bool) -> int:
    """Return the number of loaded items if they are enough, otherwise four times as many."""
    return len(loaded) if is_enough else 4 * max(len(loaded), 1)
