"""Windows: the part of the history that a model gets.

A model need not get the whole conversation. A window selects the part of the history that the model
gets: ``MemoryLayer(..., window=LastTurns(20))``. A window is any service, and so an async callable,
from a `History` to a sequence of items. The stored items do not change.

The windows of this module

1. keep the newest items, as they are;
2. start where an exchange starts if they cut the history, so they separate no answer from its
   question and no tool result from its tool call;
3. keep the last exchange whole if one of its tool calls has no result, since the request may bring
   the result;
4. tell how many items they need, so the layer loads only these.

>>> from typing import Any
>>> import anyio
>>> from tower_memory import InMemorySessionStore, MemoryLayer
>>> from tower_memory.windows import LastTurns, Shortest, TokenBudget
>>> recent = Shortest(LastTurns(2), TokenBudget(8000))  # the shorter of the two
>>> memory = MemoryLayer.over(InMemorySessionStore(), session_id="user_123", window=recent)
>>> async def count(request: list[Any]) -> str:
...     return f"Messages received: {len(request)}"
>>> async def main() -> None:
...     for _ in range(4):
...         print(await memory(count)([{"role": "user", "content": "Hi"}]))
>>> anyio.run(main)
Messages received: 1
Messages received: 3
Messages received: 5
Messages received: 5

A window of your own may return anything that the dialect can read, such as a summary. It must keep
a tool call and its result together, or drop both; otherwise the layer raises `ValueError` before
the model is called. This window calls a model for each summary, and reads the whole history:

>>> from collections.abc import Sequence
>>> from tower_memory import History
>>> async def summarise(messages: Sequence[Any]) -> str:  # stands for the call of a model
...     return f"{len(messages)} messages about the weather"
>>> async def summarised(history: History[Any]) -> Sequence[Any]:
...     kept = await LastTurns(1)(history)
...     older = history[: len(history) - len(kept)]
...     if not older:
...         return kept
...     summary = await summarise(older)
...     return [{"role": "user", "content": f"Said before: {summary}"}, *kept]
>>> talk = [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "No."}]
>>> anyio.run(summarised, History(talk * 2))[0]
{'role': 'user', 'content': 'Said before: 2 messages about the weather'}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import accumulate
from typing import Any, Protocol, final, runtime_checkable

from tower_memory._arguments import check_int, shown
from tower_memory._history import History
from tower_memory._token_estimate import estimated_tokens
from tower_memory._tool_links import GetLinks, OpenCalls, last_exchange_start, pair_calls
from tower_memory.dialects._known_links import known_links

__all__ = (
    "BoundedWindow",
    "LastItems",
    "LastTurns",
    "Shortest",
    "TokenBudget",
    "Window",
    "estimated_tokens",
)

_FIRST_LOAD = 64
"""Number of items to load at first, if the items decide how many are needed."""


class Window(Protocol):
    """A service from a history to the items that the model gets, oldest first."""

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """Return the items that the model gets before the items of the request."""
        ...


@runtime_checkable
class BoundedWindow(Protocol):
    """A window that tells how many of the newest items it needs.

    The method is optional; a window without it gets the whole history.
    """

    def needs(self, loaded: History[Any] | None, /) -> int | None:
        """Return the number of newest items to load; None loads all.

        The layer first passes None. Then it loads, and passes the history *loaded* so far, until
        the window needs no more items than are loaded, or all items are loaded.
        """
        ...


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

    def needs(self, loaded: History[Any] | None, /) -> int | None:
        """See `BoundedWindow.needs`."""
        if loaded is None:
            return max(_FIRST_LOAD, 8 * self.turns)
        return _need(loaded, is_enough=len(_exchange_starts(loaded)) > self.turns)

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """See `Window`."""
        starts = _exchange_starts(history)
        return _cut(history, starts[-self.turns] if len(starts) > self.turns else 0)


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

    def needs(self, loaded: History[Any] | None, /) -> int | None:
        """See `BoundedWindow.needs`."""
        if loaded is None or len(loaded) <= self.items:
            return self.items + 1  # the additional item tells whether the window cuts
        return _need(loaded, is_enough=bool(_exchange_starts(loaded)))

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """See `Window`."""
        return _cut(history, max(0, len(history) - self.items))


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

    def needs(self, loaded: History[Any] | None, /) -> int | None:
        """See `BoundedWindow.needs`."""
        if loaded is None:
            return _FIRST_LOAD
        is_cut = self._fitting(loaded) < len(loaded)
        return _need(loaded, is_enough=is_cut and bool(_exchange_starts(loaded)))

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """See `Window`."""
        return _cut(history, len(history) - self._fitting(history))

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

    def needs(self, loaded: History[Any] | None, /) -> int | None:
        """See `BoundedWindow.needs`. The smallest need is enough for the shortest window."""
        return min(need for window in self.windows if (need := window.needs(loaded)) is not None)

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """See `Window`."""
        return min([await window(history) for window in self.windows], key=len)

    def __repr__(self) -> str:
        return f"Shortest({', '.join(map(repr, self.windows))})"


def _need(loaded: History[Any], *, is_enough: bool) -> int:
    """Return the number of loaded items if they are enough, otherwise four times as many."""
    return len(loaded) if is_enough else 4 * max(len(loaded), 1)


def _links_of(history: Sequence[Any]) -> GetLinks:
    links = history.links if isinstance(history, History) else None
    return known_links if links is None else links


def _exchange_starts(history: Sequence[Any]) -> list[int]:
    """Return the positions at which exchanges start.

    The position between a tool call and its late result is no start: a cut there would separate
    them.
    """
    starts: list[int] = []
    open_calls = OpenCalls()
    for position, (calls, results, starts_exchange) in enumerate(map(_links_of(history), history)):
        if starts_exchange:
            starts.append(position)
        for caller in map(open_calls.answer, results):
            while caller and starts and starts[-1] > caller.position:
                starts.pop()  # the result is late
        if calls:
            open_calls.add(position, calls)
    return starts


def _last_exchange_is_open(history: Sequence[Any]) -> bool:
    """Return True if the last exchange is open: one of its tool calls has no result."""
    links = _links_of(history)
    last = last_exchange_start(history, links)
    return any(call.position >= last for call in pair_calls(history, links).unanswered)


def _cut(history: Sequence[Any], start: int) -> Sequence[Any]:
    """Return the history from the first exchange that starts at *start* or later.

    If *start* is 0, return the whole history. If there is no such exchange and the last exchange
    is open, return this exchange.
    """
    if start == 0:
        return history
    starts = _exchange_starts(history)
    later = [position for position in starts if position >= start]
    if later:
        return history[later[0] :]
    return history[starts[-1] :] if starts and _last_exchange_is_open(history) else ()
