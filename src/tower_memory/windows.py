"""Windows: which part of its history a model is given.

A window is any service from `History` to items; ``MemoryLayer(..., window=LastTurns(20))``. What
is stored does not change. Those here

1. keep the newest items, as they are,
2. cut where an exchange begins, so that the model gets no answer without its question and no
   result without its call, and
3. keep an exchange whole that is not over: one whose last call has no result yet, which the
   request is about to bring.

They say what they need, and no more is read from the store. A window of your own may be anything,
such as a summary by a model:

>>> async def summarised(history):
...     recent = await LastTurns(20)(history)
...     older = history[: len(history) - len(recent)]
...     return [{"role": "user", "content": f"Before: {len(older)} messages."}, *recent]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from inspect import isawaitable
from itertools import accumulate
from operator import is_
from typing import Any, Protocol, final, runtime_checkable

from msgspec import json

from tower_memory._arguments import check_whole
from tower_memory._history import History
from tower_memory._service import Service, describe
from tower_memory._sessions import load_at_most
from tower_memory._shapes import calls_of, opens, results_of

__all__ = (
    "BoundedWindow",
    "LastItems",
    "LastTurns",
    "Shortest",
    "TokenBudget",
    "Window",
    "estimated_tokens",
)

_FIRST_LOOK = 64
"""How many items to begin with, where what is needed depends on what they are."""

_CHARACTERS_OF_A_TOKEN = 4
"""Of English text, in the tokenisers of most providers; of other languages it is less."""


class Window(Protocol):
    """What part of a history the model gets: a service from history to items, oldest first."""

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """The items that the model gets before those of the request."""
        ...


@runtime_checkable
class BoundedWindow(Protocol):
    """A window that does not need the whole history, and can say so."""

    def needs(self, loaded: History[Any] | None, /) -> int | None:
        """How many of the newest items to load, given those *loaded* so far; None for all.

        Asked first with None, and again with what was loaded, until it needs no more than that.
        """
        ...


def estimated_tokens(item: Any) -> int:
    """About how many tokens *item* is: a quarter of the characters of its JSON, and 4 more.

    A heuristic, for want of the provider's tokeniser; it tends to count more than there are.
    """
    return len(json.encode(item)) // _CHARACTERS_OF_A_TOKEN + 4


@final
@dataclass(frozen=True, slots=True)
class LastTurns:
    """The last exchanges, each from what a user said to what came of it.

    Attributes:
        turns: How many; 1 or more.
    """

    turns: int

    def __post_init__(self) -> None:
        check_whole("turns", self.turns, least=1)

    def needs(self, loaded: History[Any] | None, /) -> int | None:
        """See `BoundedWindow.needs`."""
        if loaded is None:
            return max(_FIRST_LOOK, 8 * self.turns)
        return _enough(loaded, done=len(_beginnings(loaded)) > self.turns)

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """See `Window`."""
        beginnings = _beginnings(history)
        start = beginnings[-self.turns] if len(beginnings) > self.turns else 0
        return _cut(history, start)


@final
@dataclass(frozen=True, slots=True)
class LastItems:
    """The newest items, from where an exchange begins.

    Attributes:
        items: How many at most; 0 or more. An exchange that is not over may be longer.
    """

    items: int

    def __post_init__(self) -> None:
        check_whole("items", self.items, least=0)

    def needs(self, loaded: History[Any] | None, /) -> int | None:
        """See `BoundedWindow.needs`."""
        if loaded is None or len(loaded) <= self.items:
            return self.items + 1  # one more tells whether there is a cut
        return _enough(loaded, done=bool(_beginnings(loaded)))

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """See `Window`."""
        return _cut(history, max(0, len(history) - self.items))


@final
@dataclass(frozen=True, slots=True)
class TokenBudget:
    """The newest items that fit a budget, from where an exchange begins.

    Attributes:
        tokens: How many at most; 0 or more. An exchange that is not over may take more.
        count: Counts those of an item; by default a heuristic, `estimated_tokens`.
    """

    tokens: int
    _: KW_ONLY
    count: Callable[[Any], int] = estimated_tokens

    def __post_init__(self) -> None:
        check_whole("tokens", self.tokens, least=0)
        if not callable(self.count):
            msg = f"count must be a function from an item to its tokens, got {self.count!r}"
            raise TypeError(msg)

    def needs(self, loaded: History[Any] | None, /) -> int | None:
        """See `BoundedWindow.needs`."""
        if loaded is None:
            return _FIRST_LOOK
        is_cut = self._fitting(loaded) < len(loaded)
        return _enough(loaded, done=is_cut and bool(_beginnings(loaded)))

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """See `Window`."""
        return _cut(history, len(history) - self._fitting(history))

    def _fitting(self, history: History[Any]) -> int:
        """How many of the newest items fit."""
        totals = accumulate(self.count(item) for item in reversed(history))
        return sum(1 for total in totals if total <= self.tokens)


@final
class Shortest:
    """The shortest of several windows: ``Shortest(LastTurns(20), TokenBudget(8000))``.

    Args:
        windows: Windows of this module, one or more.
    """

    def __init__(self, *windows: LastTurns | LastItems | TokenBudget) -> None:
        if not windows:
            msg = "windows must be one or more, got none"
            raise ValueError(msg)
        self.windows = windows

    def needs(self, loaded: History[Any] | None, /) -> int | None:
        """See `BoundedWindow.needs`: the least, as a longer one is not the shortest."""
        return min(need for window in self.windows if (need := window.needs(loaded)) is not None)

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """See `Window`."""
        return min([await window(history) for window in self.windows], key=len)

    def __repr__(self) -> str:
        return f"Shortest({', '.join(map(repr, self.windows))})"


async def load_for(
    bounded: BoundedWindow | None, load: Service[str, History[Any]], session_id: str
) -> History[Any]:
    """The session's history, as far back as a window needs it; whole, where none is *bounded*."""
    limit = bounded.needs(None) if bounded else None
    while True:
        history = await load_at_most(limit, load, session_id)
        if not isinstance(history, History):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"load must give a History, got {type(history).__name__}"
            raise TypeError(msg)
        if bounded is None or limit is None or len(history) < limit:
            return history
        limit = bounded.needs(history)
        if limit is not None and limit <= len(history):
            return history


async def seen_through(window: Window, history: History[Any], new: Sequence[Any]) -> History[Any]:
    """What *window* gives of *history*, given the request's *new* items.

    Raises:
        TypeError: It gives nothing to await, or no sequence of items.
        ValueError: It tears a call of a tool and its result apart.
    """
    given: Any = window(history)
    if not isawaitable(given):
        msg = f"window must be async, and {describe(window)} returned {type(given).__name__}"
        raise TypeError(msg)
    return check_window(history, await given, new)


def check_window(history: History[Any], items: Any, new: Sequence[Any]) -> History[Any]:
    """*items* as a history, if a window may make them of *history*, given the request's *new* ones.

    Items that were never in the history are allowed.

    Raises:
        TypeError: They are no sequence of items.
        ValueError: A call is among them without its result, or a result without its call, though
            the history has both.
    """
    if not isinstance(items, Sequence) or isinstance(items, (str, bytes)):
        msg = f"a window must give a sequence of items, got {type(items).__name__}"
        raise TypeError(msg)
    calls, results = _ends(history)
    kept_calls, kept_results = _ends([*items, *new])
    torn = (kept_calls - kept_results) & results | (kept_results - kept_calls) & calls
    if torn:
        msg = (
            "a window must give a call of a tool and its result together, or neither; it tore "
            f"apart the call {min(torn)!r}"
        )
        raise ValueError(msg)
    if len(items) == len(history) and all(map(is_, items, history)):
        return history
    return History(items, revision=history.revision, is_cut=True)


def _ends(items: Sequence[Any]) -> tuple[set[str], set[str]]:
    """The calls that *items* make, and those whose results they hold."""
    calls = {call for item in items for call in calls_of(item)}
    return calls, {call for item in items for call in results_of(item)}


def _enough(loaded: History[Any], *, done: bool) -> int:
    """As many as are *loaded*, if that will do: where the last exchange begins tells what it is."""
    return len(loaded) if done else 4 * max(len(loaded), 1)


def _beginnings(history: Sequence[Any]) -> list[int]:
    """Where exchanges begin."""
    return [position for position, item in enumerate(history) if opens(item)]


def _is_open(history: Sequence[Any]) -> bool:
    """Whether the last exchange is not over: a call of it has no result yet."""
    waiting: set[str] = set()
    for item in history:
        waiting = set() if opens(item) else waiting
        waiting |= set(calls_of(item))
        waiting -= set(results_of(item))
    return bool(waiting)


def _cut(history: Sequence[Any], start: int) -> Sequence[Any]:
    """*history* from where an exchange begins, at *start* or later; if it is not over, earlier."""
    if start == 0:
        return history
    beginnings = _beginnings(history)
    later = [position for position in beginnings if position >= start]
    if later:
        return history[later[0] :]
    return history[beginnings[-1] :] if beginnings and _is_open(history) else ()
